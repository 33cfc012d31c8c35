/// How values become log lines, and standard output that belongs to an execution (contract: runtime-contract 4).
library;

import 'dart:convert';
import 'dart:io';

const _messageMaxChars = 8000;
const _truncated = '... Log truncated due to size limit ($_messageMaxChars characters)';

/// One log line (without its newline) from the arguments of one call.
String lineOf(Iterable<dynamic> values) {
  final text = values.map(_textOf).join(' ');
  if (text.length <= _messageMaxChars || text.runes.length <= _messageMaxChars) return text;
  return String.fromCharCodes(text.runes.take(_messageMaxChars)) + _truncated;
}

String _textOf(dynamic value) {
  if (value is Map || value is Iterable) {
    try {
      return jsonEncode(value is Iterable ? value.toList() : value);
    } catch (_) {
      return '$value';
    }
  }
  return '$value';
}

/// A problem as its author should read it: without the frames of this program and of what calls the handler for it.
String describe(Object problem, StackTrace stack) {
  final lines = '$stack'.trim().split('\n').where((line) => !line.contains('/shims/dart/')).toList();
  while (lines.isNotEmpty && (lines.last.contains('(dart:') || lines.last.startsWith('<asynchronous'))) {
    lines.removeLast();
  }
  return ['$problem', ...lines].join('\n');
}

/// Stands in for stdout or stderr in the zone of an execution.
class NativeOutput implements Stdout {
  NativeOutput(this._write);

  final void Function(List<int> data) _write;

  @override
  Encoding encoding = utf8;

  @override
  void add(List<int> data) => _write(data);

  @override
  void write(Object? object) => _write(encoding.encode('$object'));

  @override
  void writeln([Object? object = '']) => write('$object\n');

  @override
  void writeAll(Iterable<dynamic> objects, [String separator = '']) => write(objects.join(separator));

  @override
  void writeCharCode(int charCode) => write(String.fromCharCode(charCode));

  @override
  void addError(Object error, [StackTrace? stackTrace]) => writeln('$error');

  @override
  Future<void> addStream(Stream<List<int>> stream) => stream.forEach(_write);

  @override
  Future<void> flush() => Future.value();

  @override
  Future<void> close() => Future.value();

  @override
  Future<void> get done => Future.value();

  @override
  bool get hasTerminal => false;

  @override
  bool get supportsAnsiEscapes => false;

  @override
  IOSink get nonBlocking => this;

  /// What later versions add.
  @override
  dynamic noSuchMethod(Invocation invocation) => super.noSuchMethod(invocation);
}
