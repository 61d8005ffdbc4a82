package flogfile_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/flogtool/flogtool/event/flogfile"
)

// benchFile is a megabyte of lines as programs write them.
func benchFile() []byte {
	data := []byte(flogfile.Magic)
	for i := 0; len(data) < 1<<20; i++ {
		data = fmt.Appendf(data, `{"from": "local", "rx_time": 17000000%02d.123456, "d": {"parent": %d, "facility": "net.peer", `+
			`"format": "%%(op)s of %%(key)s took %%(ms).3f ms (%%(n)d bytes)", "op": "read", "key": "k-%08x", "ms": 3.25817263541, "n": 4096, `+
			`"num": %d, "level": 10, "time": 17000000%02d.121256, "incarnation": ["0123456789abcdef", null]}}`+"\n", i%100, i/2, i*7919, i, i%100)
	}
	return data
}

func benchLines(b *testing.B, each func(l *flogfile.Line)) {
	data := benchFile()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := flogfile.NewReader(bytes.NewReader(data), "bench")
		if err != nil {
			b.Fatal(err)
		}
		for {
			l, err := r.Next()
			if err != nil {
				break
			}
			each(l)
		}
	}
}

func BenchmarkScan(b *testing.B) { benchLines(b, func(*flogfile.Line) {}) }

func BenchmarkText(b *testing.B) {
	var buf []byte
	benchLines(b, func(l *flogfile.Line) { buf = l.AppendText(buf[:0]) })
}

func BenchmarkCopy(b *testing.B) {
	var buf []byte
	benchLines(b, func(l *flogfile.Line) { buf = l.AppendLine(buf[:0]) })
}

func BenchmarkLevel(b *testing.B) {
	n := 0
	benchLines(b, func(l *flogfile.Line) { n += int(l.Level()) })
}
