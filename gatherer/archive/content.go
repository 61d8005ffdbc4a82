package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
)

// ContentOf returns the digest of an incident's header and events, in hex. It is equal
// to [Archive.Content] of the incident when stored: it does not depend on who offered
// the incident, when it was received, or how its file is compressed. Two incidents with
// one digest are the same incident.
func ContentOf(header event.Dict, events []event.Dict) string {
	d := digest{hash: sha256.New()}
	json := event.AppendJSON(nil, header)
	d.addJSON(json)
	for _, dict := range events {
		json = event.FromDict(dict).AppendJSON(json[:0])
		d.addJSON(json)
	}
	return d.sum()
}

// digest is of the JSON of the header, then of the events in order, in the form in
// which package flogfile writes it. Each comes with its length, so that no two lists
// have the same bytes.
type digest struct {
	hash hash.Hash
	buf  []byte
}

func (d *digest) addJSON(raw []byte) {
	d.buf = flogfile.AppendCanonical(d.buf[:0], raw)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(d.buf)))
	d.hash.Write(n[:])
	d.hash.Write(d.buf)
}

// addLine adds the header or the event of a line: key is "header" or "d".
func (d *digest) addLine(line *flogfile.Line, key string) {
	raw, _ := line.RawWrapper(key)
	d.addJSON(raw)
}

func (d *digest) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }
