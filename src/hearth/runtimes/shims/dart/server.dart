/// The server inside a Dart instance, compiled together with the function. Started by compiled/launch.py, which has
/// taken the assignment.
library;

import 'dart:convert';
import 'dart:io';

import 'channel.dart';
import 'execution.dart';

const _signatureInvalid = "Function signature invalid. Did you forget to export a 'main' function?";

/// Serve with the function that the entrypoint calls `main`, until the host has gone.
void serve(Function handler) {
  final concurrency = int.tryParse(takeVariable('HEARTH_CONCURRENCY')) ?? 1;
  final window = int.tryParse(takeVariable('HEARTH_WINDOW')) ?? 0;
  if (handler is! dynamic Function(Never)) {
    send({'type': 'load_failed', 'error': _signatureInvalid});
    frames().listen((_) {}); // the host ends this instance
    return;
  }
  final instance = Instance(handler, window, _enforced(Platform.environment['OPEN_RUNTIMES_HEADERS'] ?? ''));
  frames().listen((frame) => _take(instance, frame));
  send({'type': 'loaded', 'concurrency': concurrency});
}

Map<String, String> _enforced(String text) {
  try {
    return (jsonDecode(text) as Map).map((name, value) => MapEntry('$name'.toLowerCase(), '$value'));
  } catch (_) {
    return const {};
  }
}

void _take(Instance instance, Frame frame) {
  final kind = frame.header['type'];
  if (kind == 'request') instance.running[frame.id] = Execution(instance, frame.header);
  final execution = instance.running[frame.id];
  if (execution == null) return; // it has ended meanwhile
  switch (kind) {
    case 'request' || 'body':
      execution.addBody(frame.body);
      if (!frame.more) execution.run();
    case 'cancel':
      execution.cancel();
    case 'ack':
      execution.acknowledge(frame.header['size'] as int);
  }
}
