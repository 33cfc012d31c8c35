package main

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-runtimes/types-for-go/v4/openruntimes"
)

const (
	timedOut = "Execution timed out."
	// The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so
	// does a line after a pause; a flood is gathered into larger frames.
	directLines = 32
	batchBytes  = 16 * 1024
	pause       = 50 * time.Millisecond

	logFrameBytes = 512 * 1024
	pieceBytes    = 64 * 1024
)

var isLeaving atomic.Bool

var errStopped = errors.New("the reader of this response has left")

// execution is one request from its first frame to its response.
type execution struct {
	header hostFrame
	body   []byte
	timer  *time.Timer

	lock      sync.Mutex
	isOpen    bool
	stream    string
	pending   []byte
	lines     int
	flushedAt time.Time
	flushSoon *time.Timer

	// Of a streamed response: whether it has begun, how many bytes may be sent, and whether to stop.
	isStreaming bool
	room        int
	isStopped   bool
	hasRoom     *sync.Cond
}

func newExecution(header hostFrame) *execution {
	made := &execution{header: header, isOpen: true, room: streamWindow}
	made.hasRoom = sync.NewCond(&made.lock)
	return made
}

// write adds whole lines, or any piece of native output, to one of the log streams. Any goroutine may call it.
func (e *execution) write(stream string, text []byte) {
	e.lock.Lock()
	defer e.lock.Unlock()
	if !e.isOpen || !e.header.Logging || len(text) == 0 {
		return
	}
	if stream != e.stream {
		e.flushLocked()
		e.stream = stream
	}
	e.pending = append(e.pending, text...)
	e.lines++
	if e.lines <= directLines || len(e.pending) >= batchBytes || time.Since(e.flushedAt) >= pause {
		e.flushLocked()
	} else if e.flushSoon == nil {
		e.flushSoon = time.AfterFunc(pause, e.flush)
	}
}

func (e *execution) error(text string) {
	e.write("error", []byte(text+"\n"))
}

func (e *execution) flush() {
	e.lock.Lock()
	defer e.lock.Unlock()
	e.flushLocked()
}

func (e *execution) flushLocked() {
	if data := e.takePending(); len(data) > 0 {
		sendRaw(data)
		if e.lines >= directLines {
			e.flushedAt = time.Now()
		}
	}
}

// takePending returns log frames not sent yet and forgets them.
func (e *execution) takePending() []byte {
	if e.flushSoon != nil {
		e.flushSoon.Stop()
		e.flushSoon = nil
	}
	var frames []byte
	for at := 0; at < len(e.pending); at += logFrameBytes {
		piece := e.pending[at:smaller(at+logFrameBytes, len(e.pending))]
		frames = append(frames, encode(frame{"type": "log", "id": e.header.Id, "stream": e.stream}, piece)...)
	}
	e.pending = e.pending[:0]
	return frames
}

// run calls the handler and answers.
func (e *execution) run() {
	seconds := e.header.Timeout
	e.timer = time.AfterFunc(time.Duration(seconds*float64(time.Second)), e.timeOut)
	context := openruntimes.NewContext(func(stream, line string) { e.write(stream, []byte(line+"\n")) })
	context.Req = requestOf(e.header, e.body)
	defer func() {
		if problem := recover(); problem != nil {
			e.error(describe(problem, debug.Stack()))
			e.fail()
		}
	}()
	labelled(e, func() { e.finish(call(context)) })
}

// fail answers for a handler that panicked.
func (e *execution) fail() {
	if e.isStreaming {
		e.endStream(true, false)
	} else {
		e.answer(500, nil, nil, false)
	}
}

func (e *execution) timeOut() {
	e.error(timedOut)
	if e.isStreaming {
		e.endStream(true, true)
	} else {
		e.answer(500, nil, nil, true)
	}
}

func (e *execution) cancel() {
	e.lock.Lock()
	e.isStopped = true
	isStreaming := e.isStreaming
	e.isOpen = e.isOpen && isStreaming
	e.hasRoom.Broadcast()
	e.lock.Unlock()
	if !isStreaming {
		e.close()
	}
}

func (e *execution) acknowledge(size int) {
	e.lock.Lock()
	e.room += size
	e.hasRoom.Broadcast()
	e.lock.Unlock()
}

func (e *execution) finish(response openruntimes.Response) {
	status := response.StatusCode
	if status == 0 {
		status = 200
	}
	if status < 100 || status > 999 {
		e.error(fmt.Sprintf("Invalid status code: %d", status))
		e.answer(500, nil, nil, false)
	} else if source, err := response.Source(); err != nil {
		e.error(err.Error())
		e.answer(500, nil, nil, false)
	} else if source != nil {
		e.sendStream(status, response.Headers, source)
	} else {
		e.answer(status, response.Headers, response.Body, false)
	}
}

func (e *execution) answer(status int, headers map[string]string, body []byte, isTimeout bool) {
	e.lock.Lock()
	if e.isStreaming { // it has begun meanwhile
		e.lock.Unlock()
		e.endStream(true, isTimeout)
		return
	}
	if !e.isOpen {
		e.lock.Unlock()
		return
	}
	e.isOpen = false
	before := e.takePending()
	e.lock.Unlock()
	e.close()
	first := body[:smaller(len(body), bodyPieceBytes)]
	header := frame{"type": "response", "id": e.header.Id, "status": status, "headers": responseHeaders(headers)}
	header["more"] = len(first) < len(body)
	if isTimeout {
		header["timed_out"] = true
	}
	sendRaw(append(before, encode(header, first)...))
	for at := len(first); at < len(body); at += bodyPieceBytes {
		end := smaller(at+bodyPieceBytes, len(body))
		send(frame{"type": "body", "id": e.header.Id, "more": end < len(body)}, body[at:end])
	}
}

// sendStream answers with the head, then with the pieces that source writes.
func (e *execution) sendStream(status int, headers map[string]string, source func(io.Writer) error) {
	e.lock.Lock()
	if !e.isOpen {
		e.lock.Unlock()
		return
	}
	e.isStreaming = true
	e.flushLocked()
	header := frame{"type": "response", "id": e.header.Id, "status": status, "headers": responseHeaders(headers)}
	header["more"], header["stream"] = true, true
	send(header, nil)
	e.lock.Unlock()
	err := source(e)
	if err != nil && !errors.Is(err, errStopped) {
		e.error(err.Error())
	}
	e.endStream(err != nil, false)
}

// Write sends pieces of a streamed body; it waits while the host has not taken what was sent before.
func (e *execution) Write(data []byte) (int, error) {
	e.lock.Lock()
	defer e.lock.Unlock()
	for at := 0; at < len(data); at += pieceBytes {
		piece := data[at:smaller(at+pieceBytes, len(data))]
		for !e.isStopped && e.room < len(piece) {
			e.hasRoom.Wait()
		}
		if e.isStopped {
			return at, errStopped
		}
		e.room -= len(piece)
		e.flushLocked()
		send(frame{"type": "body", "id": e.header.Id, "more": true}, piece)
	}
	return len(data), nil
}

// endStream sends the last frame, also of a response that was canceled: its source has stopped.
func (e *execution) endStream(isBroken, isTimeout bool) {
	e.lock.Lock()
	defer e.lock.Unlock()
	if !e.isOpen {
		return
	}
	e.flushLocked()
	e.isOpen, e.isStopped = false, true
	e.hasRoom.Broadcast()
	e.close()
	send(frame{"type": "body", "id": e.header.Id, "more": false, "broken": isBroken, "timed_out": isTimeout}, nil)
}

func (e *execution) close() {
	if e.timer != nil {
		e.timer.Stop()
	}
	runningLock.Lock()
	delete(running, e.header.Id)
	runningLock.Unlock()
}

// describe shows a panic as its author should read it: without the frames of this program and of the Go runtime.
func describe(problem interface{}, stack []byte) string {
	lines := strings.Split(strings.TrimSpace(string(stack)), "\n")
	shown := []string{fmt.Sprintf("panic: %v", problem)}
	for at := 1; at+1 < len(lines); at += 2 { // after the goroutine's name: a function, and where it is
		place := lines[at+1]
		if !isOwn(place) && !strings.Contains(place, "/src/runtime/") {
			shown = append(shown, lines[at], place)
		}
	}
	return strings.Join(shown, "\n")
}

// isOwn tells whether a line of a stack is in a file of this program or of the types it brings.
func isOwn(place string) bool {
	return strings.Contains(place, "/hearth-instance/") || strings.Contains(place, "/shims/go/types/")
}

func smaller(one, other int) int {
	if one < other {
		return one
	}
	return other
}

// responseHeaders: names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3).
func responseHeaders(given map[string]string) map[string]string {
	headers := make(map[string]string, len(given)+1)
	for name, value := range given {
		if name = strings.ToLower(name); !strings.HasPrefix(name, internalPrefix) {
			headers[name] = value
		}
	}
	kind, found := headers["content-type"]
	if !found {
		kind = "text/plain"
	}
	lower := strings.ToLower(kind)
	switch {
	case strings.HasPrefix(lower, "multipart/"): // a boundary is case-sensitive
	case strings.Contains(lower, "charset="):
		kind = lower
	default:
		kind = lower + "; charset=utf-8"
	}
	headers["content-type"] = kind
	return headers
}

const internalPrefix = "x-open-runtimes-"

// requestOf is the request as the handler sees it (contract: runtime-contract 2).
func requestOf(header hostFrame, body []byte) openruntimes.ContextRequest {
	headers := make(map[string]string, len(header.Headers))
	lowered := make(map[string]string, len(header.Headers))
	for name, value := range header.Headers {
		name = strings.ToLower(name)
		lowered[name] = value
		if !strings.HasPrefix(name, internalPrefix) {
			headers[name] = value
		}
	}
	for name, value := range enforced {
		headers[name] = value
	}
	target, _, _ := strings.Cut(header.Path, "#")
	path, queryString, _ := strings.Cut(target, "?")
	scheme, found := lowered["x-forwarded-proto"]
	if !found {
		scheme = "http"
	}
	defaultPort := 80
	if scheme == "https" {
		defaultPort = 443
	}
	host, portText, _ := strings.Cut(lowered["host"], ":")
	port, err := strconv.Atoi(portText)
	if err != nil {
		port = defaultPort
	}
	url := scheme + "://" + host
	if port != defaultPort {
		url += ":" + strconv.Itoa(port)
	}
	url += path
	if queryString != "" {
		url += "?" + queryString
	}
	query := map[string]string{}
	for _, pair := range strings.Split(queryString, "&") {
		if key, value, _ := strings.Cut(pair, "="); key != "" {
			query[key] = value
		}
	}
	request := openruntimes.ContextRequest{
		Headers: headers, Method: strings.ToUpper(header.Method), Url: url, Path: path, Port: port, Scheme: scheme,
		Host: host, QueryString: queryString, Query: query,
	}
	request.SetBodyBinary(body)
	return request
}
