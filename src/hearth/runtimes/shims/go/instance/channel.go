package main

// The framed protocol over descriptor 3 (docs/protocol.md), blocking. Writes block until the host has taken them:
// nothing queues up in this process, and what was written before a crash has left it.

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"sync"
	"syscall"
)

const (
	channelDescriptor = 3
	frameMaxBytes     = 2*1024*1024 + 4
	bodyPieceBytes    = 512 * 1024
)

type frame map[string]interface{}

// hostFrame has the fields of every frame that the host sends.
type hostFrame struct {
	Type    string            `json:"type"`
	Id      int64             `json:"id"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Timeout float64           `json:"timeout"`
	Logging bool              `json:"logging"`
	More    bool              `json:"more"`
	Size    int               `json:"size"`
}

type descriptor struct{}

func init() {
	syscall.CloseOnExec(channelDescriptor)
}

func (descriptor) Read(data []byte) (int, error) {
	for {
		count, err := syscall.Read(channelDescriptor, data)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case count == 0:
			return 0, io.EOF
		}
		return count, nil
	}
}

// read waits for a frame, fills header and returns its body. It ends this process when the host has gone.
func read(header *hostFrame) []byte {
	var size [4]byte
	mustRead(size[:])
	length := binary.BigEndian.Uint32(size[:])
	if length < 4 || length > frameMaxBytes {
		panic("a frame of a wrong length")
	}
	rest := make([]byte, length)
	mustRead(rest)
	headEnd := 4 + binary.BigEndian.Uint32(rest)
	if err := json.Unmarshal(rest[4:headEnd], header); err != nil {
		panic(err)
	}
	return rest[headEnd:]
}

func mustRead(data []byte) {
	if _, err := io.ReadFull(descriptor{}, data); err != nil {
		leave(0)
	}
}

var writeLock sync.Mutex

func encode(header frame, body []byte) []byte {
	head, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	data := make([]byte, 8, 8+len(head)+len(body))
	binary.BigEndian.PutUint32(data, uint32(4+len(head)+len(body)))
	binary.BigEndian.PutUint32(data[4:], uint32(len(head)))
	return append(append(data, head...), body...)
}

// send writes one frame.
func send(header frame, body []byte) {
	sendRaw(encode(header, body))
}

// sendRaw writes whole frames.
func sendRaw(data []byte) {
	writeLock.Lock()
	defer writeLock.Unlock()
	for len(data) > 0 {
		count, err := syscall.Write(channelDescriptor, data)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			leave(0)
		}
		data = data[count:]
	}
}

// leave ends this process without a word.
func leave(code int) {
	isLeaving.Store(true)
	os.Exit(code)
}
