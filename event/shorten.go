package event

import "fmt"

// Shortened returns what is kept of an event that is too long: the short fields by
// which it is found, and a message that says how long it was. length and limit are
// bytes of JSON.
func Shortened(e *Event, length, limit int) *Event {
	short := &Event{}
	for _, f := range e.Fields {
		switch f.Key {
		case "num", "time", "level", "incarnation", "parent", "facility", "umid":
			if len(AppendJSON(nil, f.Value)) <= maxShortField {
				short.Fields = append(short.Fields, f)
			}
		}
	}
	short.Set("message", fmt.Sprintf("[an event of %d bytes, over the gatherer's limit of %d]", length, limit))
	return short
}

const maxShortField = 256 // bytes of JSON
