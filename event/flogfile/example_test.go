package flogfile_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
)

const orders = `# foolscap flogfile v1
{"header": {"type": "incident", "program": "orders", "versions": {}, "pid": 17}}
{"from": "local", "rx_time": 1700000001.5, "d": {"num": 0, "time": 1700000001.5, "level": 20, "format": "GET %(path)s", "path": "/a"}}
{"from": "local", "rx_time": 1700000002.5, "d": {"num": 1, "time": 1700000002.5, "level": 30, "message": "no answer", "parent": 0}}
this line is damaged
`

// Read a file line by line. A damaged file gives all that can be read first.
func ExampleReader() {
	r, err := flogfile.NewReader(strings.NewReader(orders), "orders.flog") // or flogfile.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	for {
		line, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil { // a *flogfile.DamageError is about part of the file
			fmt.Println(err)
			break
		}
		if line.Kind&flogfile.KindHeader != 0 {
			fmt.Println("program:", flogfile.Program(line.Header()))
		}
		if line.Kind&flogfile.KindEvent != 0 {
			num, _ := line.Num()
			fmt.Printf("#%d %v %s\n", num, line.Level(), line.AppendText(nil))
		}
	}
	// Output:
	// program: orders
	// #0 OPERATIONAL GET /a
	// #1 WEIRD no answer
	// orders.flog: line 5, byte 371: expecting a value (column 1); 1 line (21 bytes) is missing
}

// Write a file. The name decides about compression.
func ExampleWriter() {
	w, err := flogfile.NewWriter(os.Stdout, "orders.flog", nil) // or flogfile.Create(path, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	line := flogfile.AppendHeader(nil, event.Dict{{Key: "type", Value: "log-file-observer"}})
	e := event.Event{Fields: []event.Field{{Key: "num", Value: int64(0)}, {Key: "message", Value: "hello"}}}
	line = flogfile.AppendEvent(line, "local", time.Unix(1700000001, 0), e.AppendJSON(nil))
	if _, err := w.Write(line); err != nil {
		fmt.Println(err)
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// # foolscap flogfile v1
	// {"header": {"type": "log-file-observer"}}
	// {"from": "local", "rx_time": 1700000001.0, "d": {"num": 0, "message": "hello"}}
}
