package hearth.jvm;

import java.lang.reflect.Method;

/**
 * What is different between the languages of this machine: the types that handlers see. Code that was built holds
 * classes of this interface, so what it has must stay.
 */
public interface Language {
  /** The class of a handler's argument. */
  Class<?> contextClass();

  /** An argument for the handler. */
  Object context(Request request, Logs logs);

  /** What a handler returned, null if that is no response. */
  Answer answerOf(Object result);

  /** Whether a method `main` with these parameters is a handler. */
  default boolean isHandler(Class<?>[] parameters) {
    return parameters.length == 1 && parameters[0].isAssignableFrom(contextClass());
  }

  /** Call a handler; the result may be a CompletionStage of what it returns. */
  default Object call(Method method, Object instance, Object context) throws ReflectiveOperationException {
    return method.invoke(instance, context);
  }
}
