package io.openruntimes.kotlin

import hearth.jvm.Answer
import hearth.jvm.Json
import hearth.jvm.Pieces
import java.io.OutputStream

/** Builds responses; one takes effect only if the handler returns it (contract: runtime-contract 3). */
class RuntimeResponse internal constructor() {
    fun binary(bytes: ByteArray, statusCode: Int = 200, headers: Map<String, String> = mapOf()): RuntimeOutput =
        RuntimeOutput(bytes, statusCode, headers)

    fun text(body: String, statusCode: Int = 200, headers: Map<String, String> = mapOf()): RuntimeOutput =
        binary(body.toByteArray(), statusCode, headers)

    fun send(body: String, statusCode: Int = 200, headers: Map<String, String> = mapOf()): RuntimeOutput =
        text(body, statusCode, headers)

    /** Any value: maps, lists, arrays, texts, numbers, and the properties of other objects. */
    fun json(json: Any?, statusCode: Int = 200, headers: Map<String, String> = mapOf()): RuntimeOutput =
        text(Json.write(json), statusCode, headers + ("content-type" to "application/json"))

    fun empty(): RuntimeOutput = text("", 204)

    fun redirect(url: String, statusCode: Int = 301, headers: Map<String, String> = mapOf()): RuntimeOutput =
        text("", statusCode, headers + ("location" to url))

    /** A body that is sent as `source` writes it; writing fails once the reader has left. */
    fun stream(
        source: (OutputStream) -> Unit,
        statusCode: Int = 200,
        headers: Map<String, String> = mapOf(),
    ): RuntimeOutput = streamed(Answer.Source { source(it) }, statusCode, headers)

    /** The same of an InputStream, or of the texts and bytes of an Iterable, a Sequence, an Iterator or a Stream. */
    fun stream(source: Any, statusCode: Int = 200, headers: Map<String, String> = mapOf()): RuntimeOutput =
        streamed(Pieces.sourceOf(if (source is Sequence<*>) source.iterator() else source), statusCode, headers)

    private fun streamed(source: Answer.Source, statusCode: Int, headers: Map<String, String>): RuntimeOutput =
        RuntimeOutput(ByteArray(0), statusCode, headers).also { it.source = source }
}
