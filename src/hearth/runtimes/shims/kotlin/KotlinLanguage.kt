package io.openruntimes.kotlin

import hearth.jvm.Answer
import hearth.jvm.Language
import hearth.jvm.Logs
import hearth.jvm.Request
import java.lang.reflect.Method
import java.util.concurrent.CompletableFuture
import kotlin.coroutines.Continuation
import kotlin.coroutines.CoroutineContext
import kotlin.coroutines.EmptyCoroutineContext
import kotlin.coroutines.intrinsics.COROUTINE_SUSPENDED

/** The types of Kotlin handlers; compiled together with the handler, by the compiler of its own version. */
class KotlinLanguage : Language {
    override fun contextClass(): Class<*> = RuntimeContext::class.java

    override fun context(request: Request, logs: Logs): Any = RuntimeContext(RuntimeRequest(request), logs)

    override fun answerOf(result: Any): Answer? =
        (result as? RuntimeOutput)?.let { Answer(it.body, it.statusCode, it.headers, it.source) }

    override fun isHandler(parameters: Array<Class<*>>): Boolean = when (parameters.size) {
        1 -> true
        2 -> parameters[1] == Continuation::class.java
        else -> false
    } && parameters[0].isAssignableFrom(RuntimeContext::class.java)

    /** A handler that is a suspending function goes on wherever it is continued; its result is waited for. */
    override fun call(method: Method, instance: Any?, context: Any): Any? {
        if (method.parameterCount == 1) return method.invoke(instance, context)
        val promised = CompletableFuture<Any?>()
        val continuation = object : Continuation<Any?> {
            override val context: CoroutineContext = EmptyCoroutineContext

            override fun resumeWith(result: Result<Any?>) {
                result.fold(promised::complete, promised::completeExceptionally)
            }
        }
        val result = method.invoke(instance, context, continuation)
        return if (result === COROUTINE_SUSPENDED) promised else result
    }
}
