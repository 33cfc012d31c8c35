package handler

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/open-runtimes/types-for-go/v4/openruntimes"
)

type (
	context  = openruntimes.Context
	response = openruntimes.Response
	headers  = map[string]string
)

const multipart = "--12345\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--12345--\r\n"

var counted, closed atomic.Int64

func seconds(text string) time.Duration {
	number, _ := strconv.ParseFloat(text, 64)
	return time.Duration(number * float64(time.Second))
}

func number(text string) int {
	parsed, _ := strconv.Atoi(text)
	return parsed
}

func orNil(name string) any {
	if value, found := os.LookupEnv(name); found {
		return value
	}
	return nil
}

func header(c context, name string) string {
	if value, found := c.Req.Headers[name]; found {
		return value
	}
	return "missing"
}

func logs(c context) response {
	fmt.Println("Native log")
	fmt.Fprintln(os.Stderr, "Native error")
	c.Log("Debug log")
	c.Error("Error log")
	c.Log("Log+With+Plus+Symbol")
	c.Log(42)
	c.Log(4.2)
	c.Log(true)
	c.Log(map[string]any{"objectKey": "objectValue"})
	c.Log([]string{"arrayValue"})
	c.Log(strings.Repeat("a", 9000))
	c.Error(strings.Repeat("e", 9000))
	return c.Res.Text("")
}

func url(c context) response {
	return c.Res.Json(map[string]any{
		"url": c.Req.Url, "port": c.Req.Port, "path": c.Req.Path, "query": c.Req.Query,
		"queryString": c.Req.QueryString, "scheme": c.Req.Scheme, "host": c.Req.Host,
	})
}

func sleep(c context) response {
	c.Log("Timeout start.")
	time.Sleep(seconds(c.Req.BodyText()))
	c.Log("Timeout end.")
	return c.Res.Text("Successful response.")
}

func interleave(c context) response {
	done := make(chan bool)
	go func() { // whatever a handler starts works for the same execution
		for range 5 {
			fmt.Println("native " + c.Req.BodyText())
			c.Log("own " + c.Req.BodyText())
			time.Sleep(time.Millisecond)
		}
		done <- true
	}()
	<-done
	return c.Res.Text(c.Req.BodyText())
}

func bodyJson(c context) response {
	var value any
	if err := c.Req.BodyJson(&value); err != nil {
		panic(err)
	}
	return c.Res.Json(value)
}

func body(c context) response {
	value := c.Req.Body()
	if text, isText := value.(string); isText {
		return c.Res.Text(text)
	}
	return c.Res.Json(value)
}

func child(c context) response {
	command := exec.Command("/bin/sh", "-c", "echo from the child")
	command.Stdout = os.Stdout
	if err := command.Run(); err != nil {
		panic(err)
	}
	return c.Res.Text("OK")
}

func manyHeaders(c context) response {
	many := headers{}
	for at := range 10000 {
		many[fmt.Sprintf("x-%d", at)] = "v"
	}
	return c.Res.Text("OK", c.Res.WithHeaders(many))
}

func flood(c context) response {
	line := strings.Repeat("x", 79)
	for range number(c.Req.BodyText()) {
		c.Log(line)
	}
	return c.Res.Text("OK")
}

func stream(c context) response {
	pieces := func(out io.Writer) error {
		c.Log("streaming")
		io.WriteString(out, "first,")
		time.Sleep(time.Millisecond)
		io.WriteString(out, "second,")
		_, err := out.Write([]byte{226, 130, 172})
		return err
	}
	given := headers{"X-Kind": "pieces", "content-type": "text/event-stream"}
	return c.Res.Stream(pieces, c.Res.WithStatusCode(202), c.Res.WithHeaders(given))
}

func streamEndless(c context) response {
	return c.Res.Stream(func(out io.Writer) error {
		defer closed.Add(1)
		piece := []byte(strings.Repeat("\x07", 100000))
		for {
			c.Log("piece")
			if _, err := out.Write(piece); err != nil {
				return err
			}
		}
	})
}

func streamFlood(c context) response {
	return c.Res.Stream(func(out io.Writer) error {
		io.WriteString(out, "begun")
		for at := range 100 {
			c.Log("line " + strconv.Itoa(at))
		}
		time.Sleep(time.Minute)
		return nil
	})
}

func digest(c context) response {
	sum := md5.Sum(c.Req.BodyBinary())
	return c.Res.Text(hex.EncodeToString(sum[:]), c.Res.WithHeaders(headers{"x-method": c.Req.Method}))
}

func typed(c context, text, kind string) response {
	return c.Res.Text(text, c.Res.WithHeaders(headers{"Content-Type": kind}))
}

var actions = map[string]func(c context) response{
	"text":          func(c context) response { return c.Res.Text("Hello World 👋") },
	"json":          func(c context) response { return c.Res.Json(map[string]any{"json": true, "message": "fine"}) },
	"charset":       func(c context) response { return typed(c, "ÅÆ", "text/plain; charset=iso-8859-1") },
	"uppercaseType": func(c context) response { return typed(c, "ÅÆ", "TEXT/PLAIN") },
	"multipart":     func(c context) response { return typed(c, multipart, "multipart/form-data; boundary=12345") },
	"redirect":      func(c context) response { return c.Res.Redirect("https://example.com/") },
	"empty":         func(c context) response { return c.Res.Empty() },
	"twice": func(c context) response {
		c.Res.Text("first")
		return c.Res.Text("second")
	},
	"headers": func(c context) response {
		return c.Res.Text("OK", c.Res.WithHeaders(headers{
			"first-header":                      "first-value",
			"Second-Header":                     header(c, "x-open-runtimes-custom-in-header"),
			"cookie":                            header(c, "cookie"),
			"x-open-runtimes-custom-out-header": "third-value",
		}))
	},
	"status": func(c context) response { return c.Res.Text("FAIL", c.Res.WithStatusCode(404)) },
	"logThenThrow": func(c context) response {
		c.Log("before the error")
		panic("Error!")
	},
	"method":         func(c context) response { return c.Res.Text(c.Req.Method) },
	"url":            url,
	"requestHeaders": func(c context) response { return c.Res.Json(c.Req.Headers) },
	"bodyText":       func(c context) response { return c.Res.Text(c.Req.BodyText()) },
	"bodyJson":       bodyJson,
	"bodyBinary":     func(c context) response { return c.Res.Binary(c.Req.BodyBinary()) },
	"body":           body,
	"environment": func(c context) response {
		return c.Res.Json(map[string]any{"set": orNil("CUSTOM_ENV_VAR"), "unset": orNil("NOT_DEFINED_VAR")})
	},
	"logs": logs,
	"spread": func(c context) response {
		c.Log("engine:", "open-runtimes")
		c.Error("engine:", "open-runtimes")
		return c.Res.Text("OK")
	},
	"sleep":      sleep,
	"interleave": interleave,
	"busy": func(c context) response {
		c.Log("Busy start.")
		for {
		}
	},
	"send":       func(c context) response { return c.Res.Send(c.Req.BodyRaw()) },
	"sendNumber": func(c context) response { return c.Res.Send("50") },
	"sendBytes": func(c context) response {
		return c.Res.Binary([]byte{137, 80, 78, 71, 0, 255}, c.Res.WithHeaders(headers{"content-type": "image/png"}))
	},
	"binary1": func(c context) response { return c.Res.Binary([]byte{0, 10, 255}) },
	"binary2": func(c context) response { return c.Res.Binary([]byte("\x00\x14\xff")) },
	"binary3": func(c context) response { return c.Res.Text("\x00\x1e\xff") },
	"binary4": func(c context) response { return openruntimes.Response{Body: []byte{0, 40, 255}} },
	"digest":  digest,
	"large": func(c context) response {
		return c.Res.Text(strings.Repeat("\x07", number(c.Req.BodyText())))
	},
	"badHeaders": func(c context) response {
		return c.Res.Text("OK", c.Res.WithHeaders(headers{"x-split": "a\r\nx-injected: 1", "bad name": "b", "fine": "c"}))
	},
	"manyHeaders": manyHeaders,
	"badStatus":   func(c context) response { return c.Res.Text("OK", c.Res.WithStatusCode(20000)) },
	"exit": func(c context) response {
		c.Log("leaving")
		os.Exit(3)
		return c.Res.Empty()
	},
	"signal": func(c context) response {
		c.Log("falling")
		syscall.Syscall(syscall.SYS_EXIT_GROUP, 7, 0, 0)
		return c.Res.Empty()
	},
	"child": child,
	"count": func(c context) response { return c.Res.Text(strconv.FormatInt(counted.Add(1), 10)) },
	"flood": flood,
	"pid":   func(c context) response { return c.Res.Text(strconv.Itoa(os.Getpid())) },

	"stream":         stream,
	"streamFunction": func(c context) response { return c.Res.Stream(func(out io.Writer) error { io.WriteString(out, "called"); return nil }) },
	"streamText":     func(c context) response { return c.Res.Stream(strings.NewReader("whole")) },
	"streamThrow": func(c context) response {
		return c.Res.Stream(func(out io.Writer) error {
			io.WriteString(out, "before")
			return errors.New("midway")
		})
	},
	"streamNothing": func(c context) response { return c.Res.Stream(5) },
	"streamEndless": streamEndless,
	"streamStuck": func(c context) response {
		return c.Res.Stream(func(out io.Writer) error {
			io.WriteString(out, "begun")
			time.Sleep(time.Minute)
			return nil
		})
	},
	"closed":      func(c context) response { return c.Res.Text(strconv.FormatInt(closed.Load(), 10)) },
	"streamFlood": streamFlood,
}

func Main(Context openruntimes.Context) openruntimes.Response {
	action, found := actions[Context.Req.Headers["x-action"]]
	if !found {
		panic("Unknown action")
	}
	return action(Context)
}
