package pytext_test

import (
	"fmt"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/pytext"
)

func ExampleFormat() {
	for _, json := range []string{
		`{"format": "%(op)s took %(ms).1f ms", "op": "GET", "ms": 512.25}`,
		`{"message": "%r is missing", "args": ["it's"]}`,
		`{"format": "%(nobody)s left"}`,
	} {
		e, err := event.ParseEvent([]byte(json))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(pytext.Format(e))
	}
	// Output:
	// GET took 512.2 ms
	// "it's" is missing
	// %(nobody)s left [formatting failed]
}
