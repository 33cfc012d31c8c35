package hearth.jvm;

/** What is different between the languages of this machine: the types that handlers see. */
public interface Language {
  /** The class of a handler's argument. */
  Class<?> contextClass();

  /** An argument for the handler. */
  Object context(Request request, Logs logs);

  /** What a handler returned, null if that is no response. */
  Answer answerOf(Object result);
}
