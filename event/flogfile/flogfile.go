// Package flogfile reads and writes flog files, in which programs and gatherers
// store events: a magic line, then one JSON object a line.
//
//	# foolscap flogfile v1
//	{"header": {"type": "incident", "trigger": {…}, …}}
//	{"from": "local", "rx_time": 1700000000.25, "d": {"num": 0, …}}
//	{"trailer": {…}}
//
// A [Reader] reads a file as a stream, plain or compressed. Of a damaged file it
// returns every line that it can read, then a [*DamageError] that says what is
// missing. A [Line] decodes only the fields that are asked for. [Map] reads a file on
// several processors.
//
// [OpenLimited] and [NewLimitedReader] read a file that somebody else made: [Limits]
// bound what it may cost.
//
// A [Writer] writes a file, compressed as its name says. A .zst file consists of
// independent frames and ends with an index, so that [OpenSelected] reads only the
// frames that may hold the wanted events.
//
// The package does not interpret events: package event/pytext makes their text,
// package event/filter selects them.
//
// Spec: flogfile.md.
package flogfile

import (
	"time"

	"github.com/flogtool/flogtool/event"
)

// Magic is the first line of every flog file, with its line end.
const Magic = "# foolscap flogfile v1\n"

// AppendHeader appends a header line, with its line end.
func AppendHeader(dst []byte, header event.Dict) []byte {
	dst = append(dst, `{"header": `...)
	dst = event.AppendJSON(dst, header)
	return append(dst, "}\n"...)
}

// Program returns the name of the program that recorded the events after a header, or
// "" if the header does not hold it. The key is "program"; in files of earlier
// versions it is "source".
func Program(header event.Dict) string {
	for _, key := range []string{"program", "source"} {
		v, _ := header.Get(key)
		if name, ok := v.(string); ok {
			return name
		}
	}
	return ""
}

// AppendEvent appends an event line, with its line end. from is who recorded the
// event, a TubID or "local"; rx is when the writer received it; d is the event as a
// JSON object, see [event.Event.AppendJSON].
func AppendEvent(dst []byte, from string, rx time.Time, d []byte) []byte {
	dst = append(dst, `{"from": `...)
	dst = event.AppendJSONString(dst, from)
	dst = append(dst, `, "rx_time": `...)
	dst = event.AppendJSONFloat(dst, Seconds(rx))
	dst = append(dst, `, "d": `...)
	dst = append(dst, d...)
	return append(dst, "}\n"...)
}

// AppendTrailer appends a trailer line, which may end an incident file, with its line
// end.
func AppendTrailer(dst []byte, trailer event.Dict) []byte {
	dst = append(dst, `{"trailer": `...)
	dst = event.AppendJSON(dst, trailer)
	return append(dst, "}\n"...)
}

// Seconds returns t in the unit of the format: seconds since 1970.
func Seconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9
}
