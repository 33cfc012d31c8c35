import 'dart:async';
import 'dart:convert';
import 'dart:ffi' show Int32, Int32Pointer, Pointer;
import 'dart:io';

const multipart = '--12345\r\nContent-Disposition: form-data; name="one"\r\n\r\n1\r\n--12345--\r\n';
int counted = 0;
int closed = 0;

final Map<String, dynamic Function(dynamic)> actions = {
  'text': (c) => c.res.text('Hello World 👋'),
  'json': (c) => c.res.json({'json': true, 'message': 'fine'}),
  'charset': (c) => c.res.text('ÅÆ', 200, {'Content-Type': 'text/plain; charset=iso-8859-1'}),
  'uppercaseType': (c) => c.res.text('ÅÆ', 200, {'content-type': 'TEXT/PLAIN'}),
  'multipart': (c) => c.res.text(multipart, 200, {'content-type': 'multipart/form-data; boundary=12345'}),
  'redirect': (c) => c.res.redirect('https://example.com/'),
  'empty': (c) => c.res.empty(),
  'nothing': (c) {
    c.res.text('built, not returned');
  },
  'twice': (c) {
    c.res.text('first');
    return c.res.text('second');
  },
  'headers': (c) => c.res.text('OK', 200, {
        'first-header': 'first-value',
        'Second-Header': c.req.headers['x-open-runtimes-custom-in-header'] ?? 'missing',
        'cookie': c.req.headers['cookie'] ?? 'missing',
        'x-open-runtimes-custom-out-header': 'third-value',
      }),
  'cookies': (c) => c.res.text('OK', 200, {
        'set-cookie': ['a=1; Path=/', 'b=2'],
        'other': 'header',
      }),
  'status': (c) => c.res.text('FAIL', 404),
  'logThenThrow': (c) {
    c.log('before the error');
    throw StateError('Error!');
  },
  'method': (c) => c.res.text(c.req.method),
  'url': (c) => c.res.json({
        'url': c.req.url,
        'port': c.req.port,
        'path': c.req.path,
        'query': c.req.query,
        'queryString': c.req.queryString,
        'scheme': c.req.scheme,
        'host': c.req.host,
      }),
  'requestHeaders': (c) => c.res.json(c.req.headers),
  'bodyText': (c) => c.res.text(c.req.bodyText),
  'bodyJson': (c) => c.res.json(c.req.bodyJson),
  'bodyBinary': (c) => c.res.binary(c.req.bodyBinary),
  'body': (c) {
    final body = c.req.body;
    return body is String ? c.res.text(body) : c.res.json(body);
  },
  'environment': (c) => c.res.json({
        'set': Platform.environment['CUSTOM_ENV_VAR'],
        'unset': Platform.environment['NOT_DEFINED_VAR'],
      }),
  'logs': logs,
  'spread': (c) {
    c.log('engine:', 'open-runtimes');
    c.error('engine:', 'open-runtimes');
    return c.res.text('OK');
  },
  'sleep': (c) async {
    c.log('Timeout start.');
    await Future.delayed(Duration(milliseconds: (double.parse(c.req.bodyText) * 1000).round()));
    c.log('Timeout end.');
    return c.res.text('Successful response.');
  },
  'busy': (c) {
    c.log('Busy start.');
    while (counted >= 0) {}
  },
  'send': (c) => c.res.send(c.req.bodyRaw),
  'sendNumber': (c) => c.res.send('50'),
  'sendBytes': (c) => c.res.binary([137, 80, 78, 71, 0, 255], 200, {'content-type': 'image/png'}),
  'binary1': (c) => c.res.binary([0, 10, 255]),
  'binary2': (c) => c.res.binary(const [0, 20, 255], 200),
  'binary3': (c) => c.res.binary(latin1.encode('\x00\x1e\xff'), 200, {'content-type': 'a/b'}),
  'binary4': (c) => {
        'body': [0, 40, 255],
        'statusCode': 200,
        'headers': {'content-type': 'a/b'},
      },
  'digest': (c) async {
    final md5 = await Process.start('md5sum', []);
    md5.stdin.add(c.req.bodyBinary);
    await md5.stdin.close();
    final said = await md5.stdout.transform(utf8.decoder).join();
    return c.res.text(said.split(' ').first, 200, {'x-method': c.req.method});
  },
  'large': (c) => c.res.binary(List.filled(int.parse(c.req.bodyText), 7)),
  'badHeaders': (c) =>
      c.res.text('OK', 200, {'x-split': 'a\r\nx-injected: 1', 'bad name': 'b', 'fine': 'c'}),
  'manyHeaders': (c) => c.res.text('OK', 200, {for (var at = 0; at < 10000; at++) 'x-$at': 'v'}),
  'badStatus': (c) => c.res.text('OK', 20000),
  'notAResult': (c) => 'a string',
  'interleave': (c) async {
    for (var at = 0; at < 5; at++) {
      print('native ${c.req.bodyText}');
      c.log('own ${c.req.bodyText}');
      await Future.delayed(const Duration(milliseconds: 1));
    }
    return c.res.text(c.req.bodyText);
  },
  'exit': (c) {
    c.log('leaving');
    exit(3);
  },
  'signal': (c) {
    c.log('falling');
    Pointer<Int32>.fromAddress(0).value = 0;
  },
  'child': (c) async {
    final child = await Process.start('/bin/sh', ['-c', 'echo from the child'], mode: ProcessStartMode.inheritStdio);
    await child.exitCode;
    return c.res.text('OK');
  },
  'count': (c) => c.res.text('${++counted}'),
  'flood': (c) {
    for (var at = 0; at < int.parse(c.req.bodyText); at++) {
      c.log('x' * 79);
    }
    return c.res.text('OK');
  },
  'pid': (c) => c.res.text('$pid'),
  'stream': (c) => c.res.stream(pieces(c), 202, {'content-type': 'text/event-stream', 'X-Kind': 'pieces'}),
  'streamFunction': (c) => c.res.stream(() => Stream.fromIterable(['cal', 'led'])),
  'streamPlain': (c) => c.res.stream(['a', 'b', 'c'].map((text) => text)),
  'streamText': (c) => c.res.stream('whole'),
  'streamThrow': (c) => c.res.stream(() async* {
        yield 'before';
        throw const FileSystemException('midway');
      }),
  'streamNothing': (c) => c.res.stream(5),
  'streamEndless': (c) => c.res.stream(() async* {
        final piece = List.filled(100000, 7);
        try {
          while (true) {
            c.log('piece');
            yield piece;
          }
        } finally {
          closed++;
        }
      }),
  'streamStuck': (c) => c.res.stream(() async* {
        yield 'begun';
        await Completer<void>().future;
      }),
  'streamFlood': (c) => c.res.stream(() async* {
        yield 'begun';
        for (var at = 0; at < 100; at++) {
          c.log('line $at');
        }
        await Future.delayed(const Duration(seconds: 60));
      }),
  'closed': (c) => c.res.text('$closed'),
};

Stream<dynamic> pieces(dynamic c) async* {
  c.log('streaming');
  yield 'first,';
  await Future.delayed(const Duration(milliseconds: 1));
  yield 'second,';
  yield [226, 130, 172];
}

dynamic logs(dynamic c) {
  print('Native log');
  stderr.writeln('Native error');
  c.log('Debug log');
  c.error('Error log');
  c.log('Log+With+Plus+Symbol');
  c.log(42);
  c.log(4.2);
  c.log(true);
  c.log({'objectKey': 'objectValue'});
  c.log(['arrayValue']);
  c.log('a' * 9000);
  c.error('e' * 9000);
  return c.res.text('');
}

Future<dynamic> main(final context) async {
  final action = actions[context.req.headers['x-action']];
  if (action == null) throw ArgumentError('Unknown action');
  return action(context);
}
