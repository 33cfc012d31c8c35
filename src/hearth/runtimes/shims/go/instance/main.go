// The server inside a Go instance, compiled together with the function: takes frames from descriptor 3, calls the
// handler in a goroutine of its own, answers. Started by compiled/launch.py, which has taken the assignment.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// The Go runtime hands memory back under pressure, but cannot see the sandbox's limit.
const memoryShare = 0.9

var (
	enforced     = map[string]string{}
	streamWindow int

	runningLock sync.Mutex
	running     = map[int64]*execution{}
)

func main() {
	concurrency := takeNumber("HEARTH_CONCURRENCY", 1)
	streamWindow = takeNumber("HEARTH_WINDOW", 0)
	if megabytes, err := strconv.ParseInt(os.Getenv("OPEN_RUNTIMES_MEMORY"), 10, 64); err == nil && megabytes > 0 {
		debug.SetMemoryLimit(int64(float64(megabytes<<20) * memoryShare))
	}
	if cpus, err := strconv.ParseFloat(os.Getenv("OPEN_RUNTIMES_CPUS"), 64); err == nil && cpus > 0 {
		runtime.GOMAXPROCS(int(math.Ceil(cpus)))
	}
	var given map[string]interface{}
	if json.Unmarshal([]byte(os.Getenv("OPEN_RUNTIMES_HEADERS")), &given) == nil {
		for name, value := range given {
			enforced[strings.ToLower(name)] = fmt.Sprint(value)
		}
	}
	if !canTellApart {
		concurrency = 1
	}
	send(frame{"type": "loaded", "concurrency": concurrency}, nil)
	for {
		receive()
	}
}

func takeNumber(name string, fallback int) int {
	number, err := strconv.Atoi(os.Getenv(name))
	os.Unsetenv(name)
	if err != nil {
		return fallback
	}
	return number
}

// receive takes one frame from the host.
func receive() {
	var header hostFrame
	body := read(&header)
	runningLock.Lock()
	execution := running[header.Id]
	if header.Type == "request" {
		execution = newExecution(header)
		running[header.Id] = execution
	}
	runningLock.Unlock()
	if execution == nil {
		return // it has ended meanwhile
	}
	switch header.Type {
	case "request", "body":
		execution.body = append(execution.body, body...)
		if !header.More {
			go execution.run()
		}
	case "cancel":
		execution.cancel()
	case "ack":
		execution.acknowledge(header.Size)
	}
}

// onlyOne is the execution that runs if there is exactly one.
func onlyOne() *execution {
	runningLock.Lock()
	defer runningLock.Unlock()
	if len(running) != 1 {
		return nil
	}
	for _, execution := range running {
		return execution
	}
	return nil
}
