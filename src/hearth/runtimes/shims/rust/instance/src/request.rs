//! What the handler sees of a request, and what the host sees of a response (contract: runtime-contract 2 and 3).

use openruntimes::ContextRequest;
use serde_json::{json, Map, Value};
use std::collections::HashMap;

const INTERNAL: &str = "x-open-runtimes-";

/// Fills in everything but the body.
pub fn fill(request: &mut ContextRequest, header: &Value, enforced: &HashMap<String, String>) {
    let mut all = HashMap::new();
    for (name, value) in header["headers"].as_object().into_iter().flatten() {
        all.insert(name.to_lowercase(), value.as_str().unwrap_or_default().to_string());
    }
    let path = header["path"].as_str().unwrap_or_default();
    let target = path.split('#').next().unwrap_or_default();
    let (path, query_string) = target.split_once('?').unwrap_or((target, ""));
    request.method = header["method"].as_str().unwrap_or_default().to_uppercase();
    request.path = path.to_string();
    request.query_string = query_string.to_string();
    request.scheme = all.get("x-forwarded-proto").cloned().unwrap_or_else(|| "http".to_string());
    let default_port = if request.scheme == "https" { 443 } else { 80 };
    let host = all.get("host").map_or("", String::as_str);
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    request.host = host.to_string();
    request.port = port.parse().unwrap_or(default_port);
    request.url = format!("{}://{}", request.scheme, request.host);
    if request.port != default_port {
        request.url += &format!(":{}", request.port);
    }
    request.url += path;
    if !query_string.is_empty() {
        request.url += &format!("?{query_string}");
    }
    for pair in query_string.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !key.is_empty() {
            request.query.insert(key.to_string(), value.to_string());
        }
    }
    all.retain(|name, _| !name.starts_with(INTERNAL));
    all.extend(enforced.iter().map(|(name, value)| (name.clone(), value.clone())));
    request.headers = all;
}

/// Names lower-cased, internal ones dropped, several cookies apart, content type completed.
pub fn response_headers(given: &HashMap<String, String>) -> Value {
    let mut headers = Map::new();
    for (name, value) in given {
        let name = name.to_lowercase();
        if name.starts_with(INTERNAL) {
            continue;
        }
        let shown = if name == "set-cookie" && value.contains('\n') {
            json!(value.split('\n').collect::<Vec<_>>())
        } else {
            json!(value)
        };
        headers.insert(name, shown);
    }
    let kind = headers.get("content-type").and_then(Value::as_str).unwrap_or("text/plain").to_string();
    let lower = kind.to_lowercase();
    let kind = if lower.starts_with("multipart/") {
        kind // a boundary is case-sensitive
    } else if lower.contains("charset=") {
        lower
    } else {
        format!("{lower}; charset=utf-8")
    };
    headers.insert("content-type".to_string(), json!(kind));
    Value::Object(headers)
}
