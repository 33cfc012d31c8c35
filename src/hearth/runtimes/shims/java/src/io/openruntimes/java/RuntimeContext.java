package io.openruntimes.java;

import hearth.jvm.Logs;

/** The argument of a handler (contract: runtime-contract 1 to 4). */
public class RuntimeContext {
  private final RuntimeRequest req;
  private final RuntimeResponse res = new RuntimeResponse();
  private final Logs logs;

  RuntimeContext(RuntimeRequest req, Logs logs) {
    this.req = req;
    this.logs = logs;
  }

  public RuntimeRequest getReq() {
    return req;
  }

  public RuntimeResponse getRes() {
    return res;
  }

  /** Write one line to the logs of the execution. */
  public void log(Object... messages) {
    logs.log(messages);
  }

  /** Write one line to the errors of the execution. */
  public void error(Object... messages) {
    logs.error(messages);
  }
}
