// Package openruntimes has the types of a handler (contract: runtime-contract 1 to 4). It stands in for
// github.com/open-runtimes/types-for-go/v4 in builds, and offers what handlers use of it, and Stream.
package openruntimes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	LOGGER_TYPE_LOG   = "log"
	LOGGER_TYPE_ERROR = "error"
)

const (
	messageMaxChars = 8000
	truncated       = "... Log truncated due to size limit (8000 characters)"
)

// Context is the argument of a handler.
type Context struct {
	sink func(stream, line string)

	Req ContextRequest
	Res ContextResponse
}

// NewContext returns a context whose log lines, without their newlines, go to sink.
func NewContext(sink func(stream, line string)) Context {
	return Context{sink: sink}
}

// Log writes one line to the logs of the execution.
func (c Context) Log(messages ...interface{}) {
	c.write(LOGGER_TYPE_LOG, messages)
}

// Error writes one line to the errors of the execution.
func (c Context) Error(messages ...interface{}) {
	c.write(LOGGER_TYPE_ERROR, messages)
}

func (c Context) write(stream string, messages []interface{}) {
	if c.sink != nil {
		c.sink(stream, line(messages))
	}
}

// Log is a message that is shown as it is.
type Log struct {
	Message string
}

func (l Log) String() string {
	return l.Message
}

func line(messages []interface{}) string {
	texts := make([]string, len(messages))
	for at, message := range messages {
		texts[at] = textOf(message)
	}
	text := strings.Join(texts, " ")
	if len(text) <= messageMaxChars {
		return text
	}
	count := 0
	for at := range text {
		if count == messageMaxChars {
			return text[:at] + truncated
		}
		count++
	}
	return text
}

func textOf(message interface{}) string {
	switch value := message.(type) {
	case nil:
		return "nil"
	case string:
		return value
	case []byte:
		return string(value)
	case error:
		return value.Error()
	case fmt.Stringer:
		return value.String()
	case bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64:
		return fmt.Sprint(value)
	}
	encoded, err := marshal(message)
	if err != nil {
		return fmt.Sprintf("%+v", message)
	}
	return string(encoded)
}

// ContextRequest is the request as the handler sees it.
type ContextRequest struct {
	bodyBinary []byte

	Headers     map[string]string
	Method      string
	Url         string
	Path        string
	Port        int
	Scheme      string
	Host        string
	QueryString string
	Query       map[string]string
}

func (r *ContextRequest) SetBodyBinary(bytes []byte) {
	r.bodyBinary = bytes
}

func (r ContextRequest) BodyBinary() []byte {
	return r.bodyBinary
}

func (r ContextRequest) BodyText() string {
	return string(r.bodyBinary)
}

func (r ContextRequest) BodyRaw() string {
	return r.BodyText()
}

// BodyJson parses the body into v.
func (r ContextRequest) BodyJson(v any) error {
	if err := json.Unmarshal(r.bodyBinary, v); err != nil {
		return fmt.Errorf("could not parse body into a JSON: %w", err)
	}
	return nil
}

// Body is the parsed body of a JSON content type (an empty object if there is none or it is invalid), else the text.
func (r ContextRequest) Body() interface{} {
	if !strings.HasPrefix(strings.ToLower(r.Headers["content-type"]), "application/json") {
		return r.BodyText()
	}
	var parsed interface{}
	if err := json.Unmarshal(r.bodyBinary, &parsed); err != nil {
		return map[string]interface{}{}
	}
	return parsed
}

// Response is what a handler returns; build it with the methods of Context.Res.
type Response struct {
	Body       []byte
	StatusCode int
	Headers    map[string]string

	source  func(io.Writer) error
	problem error
}

// Source is what writes a streamed body, nil for any other response; the error says why what was given is none.
func (r Response) Source() (func(io.Writer) error, error) {
	return r.source, r.problem
}

// ResponseOption changes a response that is being built.
type ResponseOption func(*Response)

// ContextResponse builds responses; one takes effect only if the handler returns it.
type ContextResponse struct{}

func (r ContextResponse) WithHeaders(headers map[string]string) ResponseOption {
	return func(response *Response) { response.Headers = headers }
}

func (r ContextResponse) WithStatusCode(statusCode int) ResponseOption {
	return func(response *Response) { response.StatusCode = statusCode }
}

func (r ContextResponse) Binary(bytes []byte, options ...ResponseOption) Response {
	return build(Response{Body: bytes, StatusCode: 200}, "", "", options)
}

func (r ContextResponse) Text(body string, options ...ResponseOption) Response {
	return r.Binary([]byte(body), options...)
}

func (r ContextResponse) Send(body string, options ...ResponseOption) Response {
	return r.Binary([]byte(body), options...)
}

func (r ContextResponse) Json(value interface{}, options ...ResponseOption) Response {
	encoded, err := marshal(value)
	if err != nil {
		return r.Text("Error encoding JSON.", append(options, r.WithStatusCode(500))...)
	}
	return build(Response{Body: encoded, StatusCode: 200}, "content-type", "application/json", options)
}

func (r ContextResponse) Empty() Response {
	return Response{Body: []byte{}, StatusCode: 204, Headers: map[string]string{}}
}

func (r ContextResponse) Redirect(url string, options ...ResponseOption) Response {
	return build(Response{Body: []byte{}, StatusCode: 301}, "location", url, options)
}

// Stream sends a body piece by piece: source is an io.Reader, or a func(io.Writer) error that writes it. When the
// reader has left, writing fails.
func (r ContextResponse) Stream(source interface{}, options ...ResponseOption) Response {
	response := build(Response{StatusCode: 200}, "", "", options)
	switch given := source.(type) {
	case io.Reader:
		response.source = func(out io.Writer) error {
			_, err := io.Copy(out, given)
			return err
		}
	case func(io.Writer) error:
		response.source = given
	default:
		response.problem = errNoSource
	}
	return response
}

var errNoSource = errors.New("A body that is streamed must be an io.Reader or a func(io.Writer) error.")

// build applies options; the header that belongs to the kind of response is always there.
func build(response Response, name, value string, options []ResponseOption) Response {
	for _, option := range options {
		option(&response)
	}
	headers := make(map[string]string, len(response.Headers)+1)
	for key, given := range response.Headers {
		headers[key] = given
	}
	if name != "" {
		headers[name] = value
	}
	response.Headers = headers
	return response
}

func marshal(value interface{}) ([]byte, error) {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(encoded.Bytes(), []byte("\n")), nil
}
