//! Answers GET / with a greeting and everything else with what it was sent.

use openruntimes::{Context, Response};
use serde_json::json;

/// The handler. Entrypoint `main.rs`; the build compiles it without commands.
pub fn main(context: Context) -> Response {
    let request = &context.req;
    context.log(format!("{} {}", request.method, request.path));
    if request.method == "GET" && request.path == "/" {
        return context.res.text("Hello from your function. Send a POST to see what it receives.", None, None);
    }
    context.res.json(
        json!({
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "body": request.body_text(),
        }),
        None,
        None,
    )
}
