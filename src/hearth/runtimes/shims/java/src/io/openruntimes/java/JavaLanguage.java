package io.openruntimes.java;

import hearth.jvm.Answer;
import hearth.jvm.Language;
import hearth.jvm.Logs;
import hearth.jvm.Request;

/** The types of Java handlers. */
public final class JavaLanguage implements Language {
  @Override
  public Class<?> contextClass() {
    return RuntimeContext.class;
  }

  @Override
  public Object context(Request request, Logs logs) {
    return new RuntimeContext(new RuntimeRequest(request), logs);
  }

  @Override
  public Answer answerOf(Object result) {
    if (!(result instanceof RuntimeOutput)) {
      return null;
    }
    RuntimeOutput output = (RuntimeOutput) result;
    Answer.Source source = output.source == null ? null : output.source::writeTo;
    return new Answer(output.getBody(), output.getStatusCode(), output.getHeaders(), source);
  }
}
