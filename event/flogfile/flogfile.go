// Package flogfile reads and writes flog files: a magic line, then one JSON
// value a line.
//
//	# foolscap flogfile v1
//	{"header": {"type": "incident", "trigger": {…}, …}}
//	{"from": "local", "rx_time": 1700000000.25, "d": {"num": 0, …}}
//	{"trailer": {…}}
//
// A [Reader] reads such a file plain or compressed, as a stream, and shows all
// that is readable in a damaged one before it says what is not. A [Writer]
// writes one, compressed as its name says; `.zst` files are made of independent
// frames with an index at the end, so that a [Reader] told what is wanted reads
// little else.
//
// It does not interpret events: package event formats them, package
// event/filter selects them.
//
// Spec: flogfile.md.
package flogfile

import (
	"time"

	"github.com/flogtool/flogtool/event"
)

// Magic is the first line of every flog file.
const Magic = "# foolscap flogfile v1\n"

// AppendHeader appends a header line.
func AppendHeader(dst []byte, header event.Dict) []byte {
	dst = append(dst, `{"header": `...)
	dst = event.AppendJSON(dst, header)
	return append(dst, "}\n"...)
}

// Program returns the name of the program whose events follow header, "" if the
// header does not say it. Files of earlier versions have it under "source".
func Program(header event.Dict) string {
	for _, key := range []string{"program", "source"} {
		v, _ := header.Get(key)
		if name, ok := v.(string); ok {
			return name
		}
	}
	return ""
}

// AppendEvent appends an event line: who recorded the event, when the writer
// got it, and the event as the JSON object d.
func AppendEvent(dst []byte, from string, rx time.Time, d []byte) []byte {
	dst = append(dst, `{"from": `...)
	dst = event.AppendJSONString(dst, from)
	dst = append(dst, `, "rx_time": `...)
	dst = event.AppendJSONFloat(dst, Seconds(rx))
	dst = append(dst, `, "d": `...)
	dst = append(dst, d...)
	return append(dst, "}\n"...)
}

// AppendTrailer appends the line that may end an incident file.
func AppendTrailer(dst []byte, trailer event.Dict) []byte {
	dst = append(dst, `{"trailer": `...)
	dst = event.AppendJSON(dst, trailer)
	return append(dst, "}\n"...)
}

// Seconds returns t as the format has times: seconds since 1970.
func Seconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9
}
