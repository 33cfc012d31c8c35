package hearth.jvm;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;

/** The handler of a function: its class, found in what the build left, and the method `main`. */
final class Handler {
  /** Below the code: the classes, and files that name the handler's class and the jars to use (build/jvm.py). */
  static final String FOLDER = ".hearth";
  private static final String SIGNATURE_INVALID =
      "Function signature invalid. Did you forget to export a 'main' function?";

  /** The code cannot be run; the message says why. */
  static final class LoadFailed extends Exception {
    private static final long serialVersionUID = 1L;

    LoadFailed(String message) {
      super(message);
    }
  }

  final Language language;
  private final Method method;
  private final Object instance;

  Handler(Language language, Method method, Object instance) {
    this.language = language;
    this.method = method;
    this.instance = instance;
  }

  Object call(Request request, Logs logs) throws ReflectiveOperationException {
    return language.call(method, instance, language.context(request, logs));
  }

  /** Load the handler of the code in a folder. */
  static Handler load(String languageName, String code, String entrypoint) throws LoadFailed {
    Path folder = Paths.get(code, FOLDER);
    List<String> words;
    try {
      words = Files.readAllLines(folder.resolve("handler"), StandardCharsets.UTF_8);
    } catch (IOException none) {
      throw new LoadFailed("Failed to load entrypoint, file " + entrypoint + " does not exist.");
    }
    ClassLoader loader = loader(code, folder, words.subList(1, words.size()));
    Thread.currentThread().setContextClassLoader(loader);
    try {
      Language language = (Language) instance(Class.forName(languageName, true, loader));
      Class<?> handler = Class.forName(words.get(0), true, loader);
      Method method = main(handler, language);
      boolean isStatic = Modifier.isStatic(method.getModifiers());
      return new Handler(language, method, isStatic ? null : instance(handler));
    } catch (LoadFailed failed) {
      throw failed;
    } catch (Throwable problem) {
      throw new LoadFailed(entrypoint + " cannot be loaded: " + describe(problem));
    }
  }

  private static ClassLoader loader(String code, Path folder, List<String> jars) throws LoadFailed {
    List<URL> places = new ArrayList<>();
    try {
      places.add(folder.resolve("classes").toUri().toURL());
      places.add(new File(code).toURI().toURL());
      for (String jar : jars) {
        places.add(Paths.get(code).resolve(jar).toUri().toURL());
      }
    } catch (IOException problem) {
      throw new LoadFailed(problem.getMessage());
    }
    return new URLClassLoader(places.toArray(new URL[0]), Handler.class.getClassLoader());
  }

  private static Method main(Class<?> handler, Language language) throws LoadFailed {
    for (Method method : handler.getDeclaredMethods()) {
      if (method.getName().equals("main") && !method.isBridge() && language.isHandler(method.getParameterTypes())) {
        method.setAccessible(true);
        return method;
      }
    }
    throw new LoadFailed(SIGNATURE_INVALID);
  }

  private static Object instance(Class<?> kind) throws ReflectiveOperationException {
    Constructor<?> constructor = kind.getDeclaredConstructor();
    constructor.setAccessible(true);
    return constructor.newInstance();
  }

  private static String describe(Throwable problem) {
    Throwable cause = problem;
    while ((cause instanceof ReflectiveOperationException || cause instanceof ExceptionInInitializerError)
        && cause.getCause() != null) {
      cause = cause.getCause();
    }
    return Logs.describe(cause);
  }
}
