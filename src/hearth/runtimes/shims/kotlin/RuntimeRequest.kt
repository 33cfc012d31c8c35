package io.openruntimes.kotlin

import hearth.jvm.Json
import hearth.jvm.Request

/** The request (contract: runtime-contract 2). */
class RuntimeRequest internal constructor(request: Request) {
    val method: String = request.method
    val scheme: String = request.scheme
    val host: String = request.host
    val port: Int = request.port
    val path: String = request.path
    val query: MutableMap<String, String> = request.query
    val queryString: String = request.queryString
    val headers: MutableMap<String, String> = request.headers
    val bodyBinary: ByteArray = request.body
    val url: String = request.url

    val bodyText: String
        get() = String(bodyBinary, Charsets.UTF_8)

    val bodyRaw: String
        get() = bodyText

    /** The parsed body; its numbers are Doubles. */
    val bodyJson: MutableMap<String, Any>
        get() {
            val parsed = Json.parse(bodyText)
            require(parsed is Map<*, *>) { "The body is JSON, but no object. Use body for other values." }
            @Suppress("UNCHECKED_CAST")
            return parsed as MutableMap<String, Any>
        }

    /** The parsed body of a JSON content type (an empty map if there is none), else the text. */
    val body: Any
        get() {
            val kind = headers["content-type"] ?: ""
            if (!kind.startsWith("application/json", ignoreCase = true)) return bodyText
            @Suppress("UNCHECKED_CAST")
            return if (bodyBinary.isEmpty()) mutableMapOf<String, Any>() else Json.parse(bodyText) as Any
        }
}
