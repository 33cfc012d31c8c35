package io.openruntimes.kotlin

import hearth.jvm.Answer

/** What a handler returns; made by the methods of `context.res`. */
class RuntimeOutput(val body: ByteArray, val statusCode: Int, val headers: Map<String, String>) {
    internal var source: Answer.Source? = null
}
