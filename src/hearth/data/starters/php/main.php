<?php

// A function for any PHP runtime: entrypoint `main.php`, no build commands.
// Answers GET / with a greeting and everything else with what it was sent.
return function ($context) {
    $request = $context->req;
    $context->log("{$request->method} {$request->path}");
    if ($request->method === 'GET' && $request->path === '/') {
        return $context->res->text('Hello from your function. Send a POST to see what it receives.');
    }

    return $context->res->json([
        'method' => $request->method,
        'path' => $request->path,
        'query' => (object) $request->query,
        'body' => $request->bodyText,
    ]);
};
