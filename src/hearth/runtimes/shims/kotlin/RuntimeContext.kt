package io.openruntimes.kotlin

import hearth.jvm.Logs

/** The argument of a handler (contract: runtime-contract 1 to 4). */
class RuntimeContext internal constructor(val req: RuntimeRequest, private val logs: Logs) {
    val res: RuntimeResponse = RuntimeResponse()

    /** Write one line to the logs of the execution. */
    fun log(vararg messages: Any?) {
        logs.log(*messages)
    }

    /** Write one line to the errors of the execution. */
    fun error(vararg messages: Any?) {
        logs.error(*messages)
    }
}
