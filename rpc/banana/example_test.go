package banana_test

import (
	"bytes"
	"fmt"
	"log"

	"github.com/flogtool/flogtool/rpc/banana"
)

// A message is one top-level sequence. This one is an answer with the request
// id 7 and one value.
func Example() {
	const table = 1 // the vocabulary table of both directions

	var m banana.Message
	m.Reset(table)
	answer := m.Open(banana.KindAnswer)
	m.Count(7)
	if err := m.Value([]any{int64(1), "two"}); err != nil {
		log.Fatal(err)
	}
	m.Close(answer)
	sent := m.AppendTo(nil, 0, nil) // no OPEN was sent before
	fmt.Printf("% x\n", sent)

	d := banana.NewDecoder(banana.NewReader(bytes.NewReader(sent), table, banana.Limits{}))
	if _, err := d.Next(); err != nil { // OPEN
		log.Fatal(err)
	}
	d.Begin()
	kind, err := d.Kind()
	if err != nil {
		log.Fatal(err)
	}
	id, err := d.Next() // INT
	if err != nil {
		log.Fatal(err)
	}
	number := id.Num // id is valid until the next token
	v, err := d.Value()
	if err != nil {
		log.Fatal(err)
	}
	if err := d.End(kind.String()); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v %d %v\n", kind, number, v)
	// Output:
	// 00 88 0d 87 07 81 01 88 04 87 01 81 02 88 08 87 03 82 74 77 6f 02 89 01 89 00 89
	// answer 7 [1 two]
}
