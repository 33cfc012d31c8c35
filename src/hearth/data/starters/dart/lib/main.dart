import 'dart:async';

/// Answers GET / with a greeting and everything else with what it was sent. The handler; entrypoint `lib/main.dart`.
Future<dynamic> main(final context) async {
  final request = context.req;
  context.log('${request.method} ${request.path}');
  if (request.method == 'GET' && request.path == '/') {
    return context.res.text('Hello from your function. Send a POST to see what it receives.');
  }
  return context.res.json({
    'method': request.method,
    'path': request.path,
    'query': request.query,
    'body': request.bodyText,
  });
}
