package hearth.jvm;

import io.openruntimes.java.RuntimeContext;
import io.openruntimes.java.RuntimeOutput;
import java.util.HashMap;
import java.util.Map;

/** A handler of ours: does what most handlers do. */
public final class Rehearsal {
  public RuntimeOutput main(RuntimeContext context) {
    Map<String, Object> json = new HashMap<>(context.getReq().getBodyJson());
    json.put("path", context.getReq().getPath() + context.getReq().getQuery());
    context.log("a", json, 1);
    context.error(new IllegalStateException("none"));
    Runnable action = () -> context.log(json.size());
    action.run();
    context.getRes().text("text");
    return context.getRes().json(json);
  }
}
