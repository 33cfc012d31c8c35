package io.openruntimes.kotlin

import java.io.ByteArrayInputStream
import java.io.IOException
import java.io.OutputStream
import java.nio.file.Files
import java.nio.file.Paths
import java.security.MessageDigest
import java.util.concurrent.atomic.AtomicInteger

private const val MULTIPART =
    "--12345\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--12345--\r\n"
private val counted = AtomicInteger()
private val closed = AtomicInteger()

private data class Told(val json: Boolean, val message: String)

class Conformance {
    private val actions: Map<String, (RuntimeContext) -> Any?> = mapOf(
        "text" to { c -> c.res.text("Hello World 👋") },
        "json" to { c -> c.res.json(Told(true, "fine")) },
        "charset" to { c -> c.res.text("ÅÆ", headers = type("text/plain; charset=iso-8859-1")) },
        "uppercaseType" to { c -> c.res.text("ÅÆ", headers = type("TEXT/PLAIN")) },
        "multipart" to { c -> c.res.text(MULTIPART, 200, type("multipart/form-data; boundary=12345")) },
        "redirect" to { c -> c.res.redirect("https://example.com/") },
        "empty" to { c -> c.res.empty() },
        "nothing" to { c ->
            c.res.text("built, not returned")
            null
        },
        "twice" to { c ->
            c.res.text("first")
            c.res.text("second")
        },
        "headers" to { c ->
            c.res.text(
                "OK",
                200,
                mapOf(
                    "first-header" to "first-value",
                    "Second-Header" to (c.req.headers["x-open-runtimes-custom-in-header"] ?: "missing"),
                    "cookie" to (c.req.headers["cookie"] ?: "missing"),
                    "x-open-runtimes-custom-out-header" to "third-value",
                ),
            )
        },
        "status" to { c -> c.res.text("FAIL", statusCode = 404) },
        "logThenThrow" to { c ->
            c.log("before the error")
            throw IllegalStateException("Error!")
        },
        "method" to { c -> c.res.text(c.req.method) },
        "url" to { c ->
            c.res.json(
                mapOf(
                    "url" to c.req.url,
                    "port" to c.req.port,
                    "path" to c.req.path,
                    "query" to c.req.query,
                    "queryString" to c.req.queryString,
                    "scheme" to c.req.scheme,
                    "host" to c.req.host,
                ),
            )
        },
        "requestHeaders" to { c -> c.res.json(c.req.headers) },
        "bodyText" to { c -> c.res.text(c.req.bodyText) },
        "bodyJson" to { c -> c.res.json(c.req.bodyJson) },
        "bodyBinary" to { c -> c.res.binary(c.req.bodyBinary) },
        "body" to { c -> c.req.body.let { if (it is String) c.res.text(it) else c.res.json(it) } },
        "environment" to { c ->
            c.res.json(mapOf("set" to System.getenv("CUSTOM_ENV_VAR"), "unset" to System.getenv()["NOT_DEFINED_VAR"]))
        },
        "logs" to ::logs,
        "spread" to { c ->
            c.log("engine:", "open-runtimes")
            c.error("engine:", "open-runtimes")
            c.res.text("OK")
        },
        "sleep" to { c ->
            c.log("Timeout start.")
            Thread.sleep((c.req.bodyText.toDouble() * 1000).toLong())
            c.log("Timeout end.")
            c.res.text("Successful response.")
        },
        "busy" to { c ->
            c.log("Busy start.")
            while (counted.get() >= 0) Thread.yield()
        },
        "send" to { c -> c.res.send(c.req.bodyRaw) },
        "sendNumber" to { c -> c.res.send("50") },
        "sendBytes" to { c -> c.res.binary(bytes(137, 80, 78, 71, 0, 255), 200, type("image/png")) },
        "binary1" to { c -> c.res.binary(bytes(0, 10, 255)) },
        "binary2" to { c -> c.res.binary(bytes(0, 20, 255), 200) },
        "binary3" to { c -> c.res.binary(bytes(0, 30, 255), 200, type("a/b")) },
        "binary4" to { _ -> RuntimeOutput(bytes(0, 40, 255), 200, type("a/b")) },
        "digest" to { c ->
            val hex = MessageDigest.getInstance("MD5").digest(c.req.bodyBinary).joinToString("") { "%02x".format(it) }
            c.res.text(hex, 200, mapOf("x-method" to c.req.method))
        },
        "large" to { c -> c.res.binary(ByteArray(c.req.bodyText.toInt()) { 7 }) },
        "badHeaders" to { c ->
            c.res.text("OK", 200, mapOf("x-split" to "a\r\nx-injected: 1", "bad name" to "b", "fine" to "c"))
        },
        "manyHeaders" to { c -> c.res.text("OK", 200, (0 until 10000).associate { "x-$it" to "v" }) },
        "badStatus" to { c -> c.res.text("OK", 20000) },
        "notAResult" to { _ -> "a string" },
        "interleave" to ::interleave,
        "exit" to { c ->
            c.log("leaving")
            System.exit(3)
        },
        "signal" to { c ->
            c.log("falling")
            val kind = Class.forName("sun.misc.Unsafe")
            val field = kind.getDeclaredField("theUnsafe").apply { isAccessible = true }
            val address = Long::class.javaPrimitiveType
            kind.getMethod("putAddress", address, address).invoke(field.get(null), 0L, 0L)
        },
        "child" to { c ->
            ProcessBuilder("/bin/sh", "-c", "echo from the child").inheritIO().start().waitFor()
            c.res.text("OK")
        },
        "count" to { c -> c.res.text("${counted.incrementAndGet()}") },
        "flood" to { c ->
            val line = "x".repeat(79)
            repeat(c.req.bodyText.toInt()) { c.log(line) }
            c.res.text("OK")
        },
        "pid" to { c -> c.res.text(Files.readSymbolicLink(Paths.get("/proc/self")).toString()) },
        "stream" to { c ->
            c.res.stream(
                { out ->
                    c.log("streaming")
                    out.write("first,".toByteArray())
                    Thread.sleep(1)
                    out.write("second,".toByteArray())
                    out.write(bytes(226, 130, 172))
                },
                202,
                type("text/event-stream") + ("X-Kind" to "pieces"),
            )
        },
        "streamFunction" to { c -> c.res.stream(sequenceOf("cal", "led")) },
        "streamPlain" to { c -> c.res.stream(listOf("a", "b", "c")) },
        "streamText" to { c -> c.res.stream(ByteArrayInputStream("whole".toByteArray())) },
        "streamThrow" to { c ->
            c.res.stream({ out: OutputStream ->
                out.write("before".toByteArray())
                throw IOException("midway")
            })
        },
        "streamNothing" to { c -> c.res.stream(5) },
        "streamEndless" to { c ->
            c.res.stream({ out ->
                val piece = ByteArray(100000) { 7 }
                try {
                    while (true) {
                        c.log("piece")
                        out.write(piece)
                    }
                } finally {
                    closed.incrementAndGet()
                }
            })
        },
        "streamStuck" to { c ->
            c.res.stream({ out ->
                out.write("begun".toByteArray())
                while (closed.get() >= 0) {
                    try {
                        Thread.sleep(60000)
                    } catch (unheard: InterruptedException) {
                        c.log("unheard")
                    }
                }
            })
        },
        "streamFlood" to { c ->
            c.res.stream({ out ->
                out.write("begun".toByteArray())
                repeat(100) { c.log("line $it") }
                Thread.sleep(60000)
            })
        },
        "closed" to { c -> c.res.text("${closed.get()}") },
    )

    suspend fun main(context: RuntimeContext): Any? {
        val action = actions[context.req.headers["x-action"]] ?: throw IllegalArgumentException("Unknown action")
        return action(context)
    }
}

private fun bytes(vararg numbers: Int) = ByteArray(numbers.size) { numbers[it].toByte() }

private fun type(kind: String) = mapOf("Content-Type" to kind)

private fun logs(c: RuntimeContext): RuntimeOutput {
    println("Native log")
    System.err.println("Native error")
    c.log("Debug log")
    c.error("Error log")
    c.log("Log+With+Plus+Symbol")
    c.log(42)
    c.log(4.2)
    c.log(true)
    c.log(mapOf("objectKey" to "objectValue"))
    c.log(listOf("arrayValue"))
    c.log("a".repeat(9000))
    c.error("e".repeat(9000))
    return c.res.text("")
}

private fun interleave(c: RuntimeContext): RuntimeOutput {
    val text = c.req.bodyText
    val thread = Thread { // whatever a handler starts works for the same execution
        repeat(5) {
            println("native $text")
            c.log("own $text")
            Thread.sleep(1)
        }
    }
    thread.start()
    thread.join()
    return c.res.text(text)
}
