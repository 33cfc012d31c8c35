package io.openruntimes.kotlin

/** Answers GET / with a greeting and everything else with what it was sent. */
class Index {
    /** The handler. Entrypoint `Index.kt`; the build compiles it without commands. */
    fun main(context: RuntimeContext): RuntimeOutput {
        val request = context.req
        context.log("${request.method} ${request.path}")
        if (request.method == "GET" && request.path == "/") {
            return context.res.text("Hello from your function. Send a POST to see what it receives.")
        }
        return context.res.json(
            mapOf(
                "method" to request.method,
                "path" to request.path,
                "query" to request.query,
                "body" to request.bodyText,
            ),
        )
    }
}
