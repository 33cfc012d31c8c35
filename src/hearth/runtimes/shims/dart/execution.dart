/// One request from its first frame to its response.
library;

import 'dart:async';
import 'dart:convert';
import 'dart:io';
import 'dart:typed_data';

import 'channel.dart';
import 'context.dart';
import 'logging.dart';

const _timedOut = 'Execution timed out.';
const _returnMissing = 'Return statement missing. return context.res.empty() if no response is expected.';
const _returnInvalid = 'Return value invalid. Return the result of one of the context.res methods.';
// The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so does
// a line after a pause; a flood is gathered into larger frames.
const _directLines = 32;
const _batchBytes = 16 * 1024;
const _pauseMs = 50;
const _logFrameBytes = 512 * 1024;
const _bodyPieceBytes = 512 * 1024;
const _streamPieceBytes = 64 * 1024;

/// What executions have in common.
class Instance {
  Instance(this.handler, this.window, this.enforced);

  final dynamic handler;

  /// How many bytes of a streamed response may be on their way.
  final int window;
  final Map<String, String> enforced;
  final Map<int, Execution> running = {};
}

class Execution {
  Execution(this._instance, this._header) : _room = _instance.window;

  final Instance _instance;
  final Map<String, dynamic> _header;
  final _body = BytesBuilder(copy: false);
  final _clock = Stopwatch()..start();
  Timer? _timer;

  bool _isOpen = true;
  String _stream = '';
  var _pending = BytesBuilder(copy: false);
  int _lines = 0;
  int _flushedMs = 0;
  Timer? _flushSoon;

  // Of a streamed response: whether it has begun, how many bytes may be sent, and whether to stop.
  bool _isStreaming = false;
  int _room;
  bool _isStopped = false;
  Completer<void>? _waiting;
  StreamIterator<dynamic>? _source;
  Future<dynamic>? _sourceCanceled;

  int get _id => _header['id'] as int;

  void addBody(Uint8List piece) => _body.add(piece);

  /// Call the handler and answer.
  void run() {
    final seconds = (_header['timeout'] as num).toDouble();
    _timer = Timer(Duration(microseconds: (seconds * 1e6).round()), _timeOut);
    final out = NativeOutput((data) => _write('native', data));
    IOOverrides.runZoned(
      () => runZonedGuarded(
        () => unawaited(_run()),
        _unhandled,
        zoneSpecification: ZoneSpecification(print: (_, __, ___, line) => _write('native', utf8.encode('$line\n'))),
      ),
      stdout: () => out,
      stderr: () => out,
    );
  }

  Future<void> _run() async {
    try {
      final request = RuntimeRequest(_header, _body.takeBytes(), _instance.enforced);
      dynamic result = _instance.handler(RuntimeContext(request, writeLine));
      if (result is Future) result = await result;
      await _finish(result);
    } catch (problem, stack) {
      writeLine('error', describe(problem, stack));
      _failed();
    }
  }

  /// An error that nobody awaited: the handler may go on, and its author should know.
  void _unhandled(Object problem, StackTrace stack) => writeLine('error', describe(problem, stack));

  void _timeOut() {
    writeLine('error', _timedOut);
    _answer(500, const {}, const [], isTimeout: true);
  }

  void _failed() => _answer(500, const {}, const []);

  Future<void> _finish(dynamic result) async {
    if (result is! Map || !(result.containsKey('body') || result.containsKey('stream'))) {
      writeLine('error', result == null ? _returnMissing : _returnInvalid);
      return _failed();
    }
    final status = result['statusCode'] ?? 200;
    if (status is! int || status < 100 || status > 999) {
      writeLine('error', 'Invalid status code: $status');
      return _failed();
    }
    final headers = result['headers'] as Map? ?? const {};
    if (result.containsKey('stream')) return _sendStream(status, headers, _streamOf(result['stream']));
    final body = result['body'];
    _answer(status, headers, body is List<int> ? body : utf8.encode('${body ?? ''}'));
  }

  // ------------------------------------------------------------------------------------------------- logs

  void writeLine(String stream, String line) => _write(stream, utf8.encode('$line\n'));

  /// Add whole lines, or any piece of native output, to one of the log streams.
  void _write(String stream, List<int> text) {
    if (!_isOpen || _header['logging'] != true || text.isEmpty) return;
    if (stream != _stream) {
      _flush();
      _stream = stream;
    }
    _pending.add(text);
    _lines++;
    final now = _clock.elapsedMilliseconds;
    if (_lines <= _directLines || _pending.length >= _batchBytes || now - _flushedMs >= _pauseMs) {
      _flush();
    } else {
      _flushSoon ??= Timer(const Duration(milliseconds: _pauseMs), _flush);
    }
  }

  void _flush() {
    final data = _takePending();
    if (data.isEmpty) return;
    sendAll(data);
    if (_lines >= _directLines) _flushedMs = _clock.elapsedMilliseconds;
  }

  /// The frames of log text that is not sent yet, which is forgotten.
  List<Uint8List> _takePending() {
    _flushSoon?.cancel();
    _flushSoon = null;
    final text = _pending.takeBytes();
    return [
      for (var at = 0; at < text.length; at += _logFrameBytes)
        encode({'type': 'log', 'id': _id, 'stream': _stream}, _piece(text, at, _logFrameBytes)),
    ];
  }

  // ---------------------------------------------------------------------------------------------- answers

  Map<String, Object?> _response(int status, Map<dynamic, dynamic> headers) =>
      {'type': 'response', 'id': _id, 'status': status, 'headers': _responseHeaders(headers)};

  void _answer(int status, Map<dynamic, dynamic> headers, List<int> given, {bool isTimeout = false}) {
    if (_isStreaming) return _endStream(isBroken: true, isTimeout: isTimeout);
    if (!_isOpen) return;
    final body = given is Uint8List ? given : Uint8List.fromList(given);
    final first = _piece(body, 0, _bodyPieceBytes);
    final header = {..._response(status, headers), 'more': first.length < body.length};
    final data = [..._takePending(), encode(isTimeout ? {...header, 'timed_out': true} : header, first)];
    _isOpen = false;
    _close();
    sendAll(data);
    for (var at = first.length; at < body.length; at += _bodyPieceBytes) {
      final isMore = at + _bodyPieceBytes < body.length;
      send({'type': 'body', 'id': _id, 'more': isMore}, _piece(body, at, _bodyPieceBytes));
    }
  }

  /// Answer with the head, then with the pieces that the source gives.
  Future<void> _sendStream(int status, Map<dynamic, dynamic> headers, Stream<dynamic> source) async {
    if (!_isOpen) return;
    _isStreaming = true;
    _flush();
    send({..._response(status, headers), 'more': true, 'stream': true});
    final pieces = _source = StreamIterator(source);
    var isBroken = false;
    try {
      while (!_isStopped && await pieces.moveNext()) {
        final piece = pieces.current;
        final data = piece is List<int> ? Uint8List.fromList(piece) : utf8.encode('$piece');
        for (var at = 0; at < data.length; at += _streamPieceBytes) {
          await _sendPiece(_piece(data, at, _streamPieceBytes));
        }
      }
      isBroken = _isStopped;
    } catch (problem, stack) {
      isBroken = true;
      if (!_isStopped) writeLine('error', describe(problem, stack));
    }
    try {
      await (_sourceCanceled ??= pieces.cancel()); // its `finally` has run when this is done
    } catch (problem, stack) {
      writeLine('error', describe(problem, stack));
    }
    _endStream(isBroken: isBroken);
  }

  Future<void> _sendPiece(Uint8List piece) async {
    while (!_isStopped && _room < piece.length) {
      await (_waiting = Completer<void>()).future;
    }
    if (_isStopped) return;
    _room -= piece.length;
    _flush();
    send({'type': 'body', 'id': _id, 'more': true}, piece);
  }

  void acknowledge(int size) {
    _room += size;
    _wake();
  }

  void _wake() {
    final waiting = _waiting;
    _waiting = null;
    waiting?.complete();
  }

  /// Nobody waits for this execution any more.
  void cancel() {
    _isStopped = true;
    if (_isStreaming) {
      _wake();
      _sourceCanceled ??= _source?.cancel();
    } else {
      _isOpen = false;
      _close();
    }
  }

  /// Send the last frame, also of a response that was canceled: its source has stopped.
  void _endStream({required bool isBroken, bool isTimeout = false}) {
    if (!_isOpen) return;
    _flush();
    _isOpen = false;
    _isStopped = true;
    _wake();
    _close();
    send({'type': 'body', 'id': _id, 'more': false, 'broken': isBroken, 'timed_out': isTimeout});
  }

  void _close() {
    _timer?.cancel();
    _instance.running.remove(_id);
  }
}

Uint8List _piece(Uint8List data, int at, int length) =>
    Uint8List.sublistView(data, at, at + length < data.length ? at + length : data.length);

Stream<dynamic> _streamOf(dynamic source) {
  final made = source is Function() ? source() : source;
  if (made is Stream) return made;
  if (made is String || made is List<int>) return Stream.value(made);
  if (made is Iterable) return Stream.fromIterable(made);
  throw ArgumentError('A body that is streamed must be a Stream, an Iterable, or a function that returns one.');
}

/// Names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3).
Map<String, Object> _responseHeaders(Map<dynamic, dynamic> given) {
  final headers = <String, Object>{};
  given.forEach((name, value) {
    final lower = '$name'.toLowerCase();
    if (value == null || lower.startsWith(internalPrefix)) return;
    headers[lower] = value is Iterable ? [for (final item in value) '$item'] : '$value';
  });
  final kind = '${headers['content-type'] ?? 'text/plain'}';
  final lower = kind.toLowerCase();
  headers['content-type'] = switch (lower) {
    _ when lower.startsWith('multipart/') => kind, // a boundary is case-sensitive
    _ when lower.contains('charset=') => lower,
    _ => '$lower; charset=utf-8',
  };
  return headers;
}
