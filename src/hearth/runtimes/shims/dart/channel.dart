/// The framed protocol over descriptor 3 (docs/protocol.md). Writes block until the host has taken them: nothing queues
/// up in this process, and what was written before a crash has left it. dart:io knows no descriptor that it did not
/// open, so the calls are those of the C library; reads wait in an isolate of their own.
library;

import 'dart:convert';
import 'dart:ffi';
import 'dart:io';
import 'dart:isolate';
import 'dart:typed_data';

const _channel = 3;
const _frameMaxBytes = 2 * 1024 * 1024 + 4;
const _setDescriptorFlags = 2;
const _closeOnExec = 1;
const _bufferBytes = 256 * 1024;

final _library = DynamicLibrary.process();
final _read = _library.lookupFunction<IntPtr Function(Int32, Pointer<Uint8>, Size),
    int Function(int, Pointer<Uint8>, int)>('read');
final _write = _library.lookupFunction<IntPtr Function(Int32, Pointer<Uint8>, Size),
    int Function(int, Pointer<Uint8>, int)>('write');
final _allocate =
    _library.lookupFunction<Pointer<Uint8> Function(Size), Pointer<Uint8> Function(int)>('malloc');
final _release =
    _library.lookupFunction<Void Function(Pointer<Uint8>), void Function(Pointer<Uint8>)>('free');
final _get = _library
    .lookupFunction<Pointer<Uint8> Function(Pointer<Uint8>), Pointer<Uint8> Function(Pointer<Uint8>)>('getenv');
final _unset = _library
    .lookupFunction<Int32 Function(Pointer<Uint8>), int Function(Pointer<Uint8>)>('unsetenv');
final _control = _library.lookupFunction<Int32 Function(Int32, Int32, VarArgs<(Int32,)>),
    int Function(int, int, int)>('fcntl');

final _buffer = _allocate(_bufferBytes);

/// The value of a variable, `''` if it is not set; takes it out of the environment, before dart:io has read that.
String takeVariable(String name) {
  final text = utf8.encode(name);
  final given = _allocate(text.length + 1);
  given.asTypedList(text.length + 1)
    ..setAll(0, text)
    ..[text.length] = 0;
  final found = _get(given);
  var length = 0;
  while (found != nullptr && found[length] != 0) {
    length++;
  }
  final value = length == 0 ? '' : utf8.decode(found.asTypedList(length));
  _unset(given);
  _release(given);
  return value;
}

/// One frame of the host.
class Frame {
  Frame(this.header, this.body);

  final Map<String, dynamic> header;
  final Uint8List body;

  int get id => header['id'] as int? ?? 0;
  bool get more => header['more'] == true;
}

/// The frames of the host, as they come. Ends this process when the host has gone.
Stream<Frame> frames() {
  _control(_channel, _setDescriptorFlags, _closeOnExec);
  final port = ReceivePort();
  Isolate.spawn(_readAll, port.sendPort, onExit: port.sendPort, debugName: 'hearth');
  return port.map((data) => data is Uint8List ? _frameOf(data) : exit(0));
}

void _readAll(SendPort port) {
  final buffer = _allocate(_frameMaxBytes);
  while (true) {
    if (!_readExactly(buffer, 4)) return;
    final length = ByteData.sublistView(buffer.asTypedList(4)).getUint32(0);
    if (length < 4 || length > _frameMaxBytes || !_readExactly(buffer, length)) return;
    port.send(Uint8List.fromList(buffer.asTypedList(length)));
  }
}

bool _readExactly(Pointer<Uint8> buffer, int length) {
  var done = 0;
  while (done < length) {
    final count = _read(_channel, buffer + done, length - done);
    if (count <= 0) return false;
    done += count;
  }
  return true;
}

Frame _frameOf(Uint8List data) {
  final end = 4 + ByteData.sublistView(data).getUint32(0);
  final header = jsonDecode(utf8.decode(Uint8List.sublistView(data, 4, end)));
  return Frame(header as Map<String, dynamic>, Uint8List.sublistView(data, end));
}

/// The bytes of one frame.
Uint8List encode(Map<String, Object?> header, List<int> body) {
  final head = utf8.encode(jsonEncode(header));
  final data = Uint8List(8 + head.length + body.length);
  ByteData.sublistView(data)
    ..setUint32(0, 4 + head.length + body.length)
    ..setUint32(4, head.length);
  return data
    ..setAll(8, head)
    ..setAll(8 + head.length, body);
}

/// Write whole frames.
void sendAll(List<Uint8List> data) {
  final all = BytesBuilder(copy: false);
  data.forEach(all.add);
  final bytes = all.takeBytes();
  for (var at = 0; at < bytes.length; at += _bufferBytes) {
    final length = bytes.length - at < _bufferBytes ? bytes.length - at : _bufferBytes;
    _buffer.asTypedList(length).setAll(0, Uint8List.sublistView(bytes, at, at + length));
    var done = 0;
    while (done < length) {
      final count = _write(_channel, _buffer + done, length - done);
      if (count <= 0) exit(0);
      done += count;
    }
  }
}

/// Write one frame.
void send(Map<String, Object?> header, [List<int> body = const []]) => sendAll([encode(header, body)]);
