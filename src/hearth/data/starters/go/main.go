// Package handler answers GET / with a greeting and everything else with what it was sent.
package handler

import "github.com/open-runtimes/types-for-go/v4/openruntimes"

// Main is the handler. Entrypoint `main.go`; the build compiles it without commands.
func Main(context openruntimes.Context) openruntimes.Response {
	request := context.Req
	context.Log(request.Method + " " + request.Path)
	if request.Method == "GET" && request.Path == "/" {
		return context.Res.Text("Hello from your function. Send a POST to see what it receives.")
	}
	return context.Res.Json(map[string]any{
		"method": request.Method,
		"path":   request.Path,
		"query":  request.Query,
		"body":   request.BodyText(),
	})
}
