/// What a handler is given (contract: runtime-contract 2 to 4). Handlers see it as `dynamic`, as in the reference.
library;

import 'dart:convert';
import 'dart:typed_data';

import 'logging.dart';

const internalPrefix = 'x-open-runtimes-';

/// The request as the handler sees it.
class RuntimeRequest {
  RuntimeRequest(Map<String, dynamic> frame, this.bodyBinary, Map<String, String> enforced)
      : method = (frame['method'] as String).toUpperCase() {
    final raw = (frame['headers'] as Map).map((name, value) => MapEntry('$name'.toLowerCase(), '$value'));
    headers = {
      for (final MapEntry(:key, :value) in raw.entries)
        if (!key.startsWith(internalPrefix)) key: value,
      ...enforced,
    };
    scheme = raw['x-forwarded-proto'] ?? 'http';
    final target = (frame['path'] as String).split('#').first;
    final (targetPath, targetQuery) = _cut(target, '?');
    final (hostName, portText) = _cut(raw['host'] ?? '', ':');
    path = targetPath;
    queryString = targetQuery;
    host = hostName;
    final defaultPort = scheme == 'https' ? 443 : 80;
    port = int.tryParse(portText) ?? defaultPort;
    final shown = port == defaultPort ? '' : ':$port';
    url = '$scheme://$host$shown$path${queryString.isEmpty ? '' : '?$queryString'}';
    for (final pair in queryString.split('&')) {
      final (key, value) = _cut(pair, '=');
      if (key.isNotEmpty) query[key] = value;
    }
  }

  final String method;
  final Uint8List bodyBinary;
  late final Map<String, dynamic> headers;
  late final String scheme;
  late final String host;
  late final int port;
  late final String path;
  late final String queryString;
  late final String url;
  final Map<String, String> query = {};

  String get bodyText => utf8.decode(bodyBinary, allowMalformed: true);

  String get bodyRaw => bodyText;

  /// The parsed body. Throws a FormatException.
  dynamic get bodyJson {
    try {
      return jsonDecode(bodyText);
    } on FormatException catch (problem) {
      throw FormatException('The body is no valid JSON: ${problem.message}', problem.source, problem.offset);
    }
  }

  /// The parsed body of a JSON content type (an empty map if there is none), else the text.
  dynamic get body {
    final kind = '${headers['content-type'] ?? ''}'.toLowerCase();
    if (!kind.startsWith('application/json')) return bodyText;
    return bodyBinary.isEmpty ? <String, dynamic>{} : bodyJson;
  }
}

(String, String) _cut(String text, String mark) {
  final at = text.indexOf(mark);
  return at < 0 ? (text, '') : (text.substring(0, at), text.substring(at + 1));
}

/// Builds responses, which are maps as in the reference; one takes effect only if the handler returns it.
class RuntimeResponse {
  const RuntimeResponse();

  dynamic binary(List<int> bytes, [int statusCode = 200, Map<String, dynamic> headers = const {}]) =>
      {'body': bytes, 'statusCode': statusCode, 'headers': headers};

  dynamic text(String body, [int statusCode = 200, Map<String, dynamic> headers = const {}]) =>
      binary(utf8.encode(body), statusCode, headers);

  dynamic send(String body, [int statusCode = 200, Map<String, dynamic> headers = const {}]) =>
      text(body, statusCode, headers);

  /// Any value that `jsonEncode` takes.
  dynamic json(dynamic json, [int statusCode = 200, Map<String, dynamic> headers = const {}]) =>
      text(jsonEncode(json), statusCode, {...headers, 'content-type': 'application/json'});

  dynamic empty() => text('', 204);

  dynamic redirect(String url, [int statusCode = 301, Map<String, dynamic> headers = const {}]) =>
      text('', statusCode, {...headers, 'location': url});

  /// A body that is sent piece by piece: a Stream or an Iterable of texts and bytes, or a function that returns one.
  dynamic stream(dynamic source, [int statusCode = 200, Map<String, dynamic> headers = const {}]) =>
      {'stream': source, 'statusCode': statusCode, 'headers': headers};
}

/// What tells an argument that was not given from null.
const _none = Object();

/// The argument of a handler.
class RuntimeContext {
  RuntimeContext(this.req, this._writeLine);

  final RuntimeRequest req;
  final RuntimeResponse res = const RuntimeResponse();
  final void Function(String stream, String line) _writeLine;

  /// Write one line to the logs of the execution, of up to eight values.
  void log(dynamic a, [dynamic b = _none, c = _none, d = _none, e = _none, f = _none, g = _none, h = _none]) =>
      _writeLine('log', lineOf([a, b, c, d, e, f, g, h].where((value) => !identical(value, _none))));

  /// Write one line to the errors of the execution, of up to eight values.
  void error(dynamic a, [dynamic b = _none, c = _none, d = _none, e = _none, f = _none, g = _none, h = _none]) =>
      _writeLine('error', lineOf([a, b, c, d, e, f, g, h].where((value) => !identical(value, _none))));
}
