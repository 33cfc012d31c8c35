package main

// Native output (fmt.Println, log.Printf, ...) finds its execution: builds with this file have hooks in package os
// (see build/golang.py), and a goroutine's profiler labels, which its children inherit, name the execution.

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"sync"
	"unsafe"
)

const canTellApart = true

var (
	labelsLock sync.RWMutex
	byLabels   = map[unsafe.Pointer]*execution{}
)

func init() {
	os.HearthWrite = writeNative
	os.HearthExit = onExit
}

// labelled calls action in a goroutine that is known to work for e.
func labelled(e *execution, action func()) {
	labels := pprof.Labels("execution", strconv.FormatInt(e.header.Id, 10))
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), labels))
	own := os.HearthLabels()
	labelsLock.Lock()
	byLabels[own] = e
	labelsLock.Unlock()
	defer func() {
		labelsLock.Lock()
		delete(byLabels, own)
		labelsLock.Unlock()
	}()
	action()
}

// owner is the execution that the running goroutine works for; nil if that cannot be told.
func owner() *execution {
	labelsLock.RLock()
	found := byLabels[os.HearthLabels()]
	labelsLock.RUnlock()
	if found != nil {
		return found
	}
	return onlyOne()
}

func writeNative(file *os.File, data []byte) bool {
	if file != os.Stdout && file != os.Stderr {
		return false
	}
	e := owner()
	if e == nil {
		return false
	}
	e.write("native", data)
	return true
}

// onExit tells whoever is concerned why this process is about to end.
func onExit(code int) {
	if isLeaving.Swap(true) {
		return
	}
	if e := owner(); e != nil {
		e.error(describe(fmt.Sprintf("os.Exit(%d) was called", code), debug.Stack()))
		e.flush()
	}
}
