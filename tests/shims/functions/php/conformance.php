<?php

const MULTIPART = "--12345\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--12345--\r\n";

$counted = 0;
$closed = 0;

$actions = [
    'text' => fn ($c) => $c->res->text('Hello World 👋'),
    'json' => fn ($c) => $c->res->json(['json' => true, 'message' => 'fine']),
    'charset' => fn ($c) => $c->res->text('ÅÆ', 200, ['content-type' => 'text/plain; charset=iso-8859-1']),
    'uppercaseType' => fn ($c) => $c->res->text('ÅÆ', 200, ['Content-Type' => 'TEXT/PLAIN']),
    'multipart' => fn ($c) => $c->res->text(MULTIPART, 200, ['content-type' => 'multipart/form-data; boundary=12345']),
    'redirect' => fn ($c) => $c->res->redirect('https://example.com/'),
    'empty' => fn ($c) => $c->res->empty(),
    'nothing' => function ($c) {
        $c->res->text('built, not returned');
    },
    'twice' => function ($c) {
        $c->res->text('first');
        return $c->res->text('second');
    },
    'headers' => fn ($c) => $c->res->text('OK', 200, [
        'first-header' => 'first-value',
        'Second-Header' => $c->req->headers['x-open-runtimes-custom-in-header'] ?? 'missing',
        'cookie' => $c->req->headers['cookie'] ?? 'missing',
        'x-open-runtimes-custom-out-header' => 'third-value',
    ]),
    'status' => fn ($c) => $c->res->text('FAIL', 404),
    'logThenThrow' => function ($c) {
        $c->log('before the error');
        throw new Exception('Error!');
    },
    'method' => fn ($c) => $c->res->text($c->req->method),
    'url' => fn ($c) => $c->res->json([
        'url' => $c->req->url,
        'port' => $c->req->port,
        'path' => $c->req->path,
        'query' => (object) $c->req->query,
        'queryString' => $c->req->queryString,
        'scheme' => $c->req->scheme,
        'host' => $c->req->host,
    ]),
    'requestHeaders' => fn ($c) => $c->res->json($c->req->headers),
    'bodyText' => fn ($c) => $c->res->text($c->req->bodyText),
    'bodyJson' => fn ($c) => $c->res->json($c->req->bodyJson),
    'bodyBinary' => fn ($c) => $c->res->binary($c->req->bodyBinary),
    'body' => fn ($c) => is_string($c->req->body) ? $c->res->text($c->req->body) : $c->res->json($c->req->body),
    'environment' => fn ($c) => $c->res->json([
        'set' => getenv('CUSTOM_ENV_VAR'),
        'unset' => getenv('NOT_DEFINED_VAR') ?: null,
    ]),
    'logs' => function ($c) {
        echo "Native log\n";
        fwrite(STDERR, "Native error\n");
        $c->log('Debug log');
        $c->error('Error log');
        $c->log('Log+With+Plus+Symbol');
        $c->log(42);
        $c->log(4.2);
        $c->log(true);
        $c->log(['objectKey' => 'objectValue']);
        $c->log(['arrayValue']);
        $c->log(str_repeat('a', 9000));
        $c->error(str_repeat('e', 9000));
        return $c->res->text('');
    },
    'spread' => function ($c) {
        $c->log('engine:', 'open-runtimes');
        $c->error('engine:', 'open-runtimes');
        return $c->res->text('OK');
    },
    'sleep' => function ($c) {
        $c->log('Timeout start.');
        usleep((int) ((float) $c->req->bodyText * 1e6));
        $c->log('Timeout end.');
        return $c->res->text('Successful response.');
    },
    'interleave' => function ($c) {
        for ($at = 0; $at < 5; $at++) {
            echo "native {$c->req->bodyText}\n";
            $c->log("own {$c->req->bodyText}");
            usleep(1000);
        }
        return $c->res->text($c->req->bodyText);
    },
    'busy' => function ($c) {
        $c->log('Busy start.');
        while (true) {
        }
    },
    'send' => fn ($c) => $c->res->send($c->req->bodyRaw),
    'sendNumber' => fn ($c) => $c->res->send(50),
    'sendBytes' => fn ($c) => $c->res->send("\x89PNG\x00\xff", 200, ['content-type' => 'image/png']),
    'binary1' => fn ($c) => $c->res->binary("\x00\x0a\xff"),
    'binary2' => fn ($c) => $c->res->binary(pack('C*', 0, 20, 255)),
    'binary3' => fn ($c) => $c->res->binary([0, 30, 255]),
    'binary4' => fn ($c) => $c->res->binary(implode('', array_map('chr', [0, 40, 255]))),
    'digest' => fn ($c) => $c->res->text(md5($c->req->bodyBinary), 200, ['x-method' => $c->req->method]),
    'large' => fn ($c) => $c->res->binary(str_repeat("\x07", (int) $c->req->bodyText)),
    'cookies' => fn ($c) => $c->res->text('OK', 200, ['set-cookie' => ['a=1; Path=/', 'b=2'], 'other' => 'header']),
    'badHeaders' => fn ($c) => $c->res->text('OK', 200, ['x-split' => "a\r\nx-injected: 1", 'bad name' => 'b', 'fine' => 'c']),
    'manyHeaders' => fn ($c) => $c->res->text('OK', 200, array_combine(
        array_map(fn ($at) => "x-$at", range(0, 9999)),
        array_fill(0, 10000, 'v'),
    )),
    'badStatus' => fn ($c) => $c->res->text('OK', 20000),
    'notAResult' => fn ($c) => 'a string',
    'exit' => function ($c) {
        $c->log('leaving');
        exit(3);
    },
    'signal' => function ($c) {
        $c->log('falling');
        FFI::cdef('void abort(void);')->abort();
    },
    'child' => function ($c) {
        passthru('/bin/sh -c "echo from the child"');
        return $c->res->text('OK');
    },
    'count' => function ($c) use (&$counted) {
        $counted++;
        return $c->res->text((string) $counted);
    },
    'flood' => function ($c) {
        $line = str_repeat('x', 79);
        for ($at = 0; $at < (int) $c->req->bodyText; $at++) {
            $c->log($line);
        }
        return $c->res->text('OK');
    },
    'stream' => function ($c) {
        $pieces = function () use ($c) {
            $c->log('streaming');
            yield 'first,';
            usleep(1000);
            yield 'second,';
            yield [226, 130, 172];
        };
        return $c->res->stream($pieces(), 202, ['X-Kind' => 'pieces', 'content-type' => 'text/event-stream']);
    },
    'streamFunction' => fn ($c) => $c->res->stream(function () {
        yield 'called';
    }),
    'streamItself' => function ($c) {
        yield 'it';
        yield 'self';
    },
    'streamPlain' => fn ($c) => $c->res->stream(['a', 'b', 'c']),
    'streamText' => fn ($c) => $c->res->stream('whole'),
    'streamThrow' => fn ($c) => $c->res->stream(function () {
        yield 'before';
        throw new Exception('midway');
    }),
    'streamNothing' => fn ($c) => $c->res->stream(5),
    'streamEndless' => function ($c) use (&$closed) {
        $pieces = function () use ($c, &$closed) {
            try {
                while (true) {
                    $c->log('piece');
                    yield str_repeat("\x07", 100000);
                }
            } finally {
                $closed++;
            }
        };
        return $c->res->stream($pieces());
    },
    'streamStuck' => fn ($c) => $c->res->stream((function () {
        yield 'begun';
        sleep(60);
    })()),
    'closed' => function ($c) use (&$closed) {
        return $c->res->text((string) $closed);
    },
    'streamFlood' => fn ($c) => $c->res->stream((function () use ($c) {
        yield 'begun';
        for ($at = 0; $at < 100; $at++) {
            $c->log("line $at");
        }
        sleep(60);
    })()),
    'pid' => fn ($c) => $c->res->text((string) getmypid()),
];

return function ($context) use ($actions) {
    $action = $actions[$context->req->headers['x-action']] ?? throw new Exception('Unknown action');
    return $action($context);
};
