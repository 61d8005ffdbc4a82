package flogfile_test

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/flogfile"
)

// checkRewritten compares how lines are copied with how they are written when
// they were decoded.
func checkRewritten(t *testing.T, text []byte) {
	t.Helper()
	r, err := flogfile.NewReader(bytes.NewReader(append([]byte(flogfile.Magic), text...)), "test")
	if err != nil {
		t.Fatal(err)
	}
	for {
		l, err := r.Next()
		if err != nil {
			return
		}
		v, err := event.ParseJSON(l.Raw)
		if err != nil {
			t.Fatalf("ParseJSON(%q): %v", l.Raw, err)
		}
		if got, want := l.AppendLine(nil), event.AppendJSON(nil, v); !bytes.Equal(got, want) {
			t.Errorf("%q is copied as\n%q, decoded and written as\n%q", l.Raw, got, want)
		}
	}
}

func TestRewrittenNumbers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var text []byte
	number := func(s string) { text = append(append(append(text, `{"a": `...), s...), "}\n"...) }
	for range 200_000 {
		s := strconv.FormatUint(rnd.Uint64N(1<<rnd.UintN(64)), 10)
		if rnd.IntN(4) > 0 {
			digits := strconv.FormatUint(rnd.Uint64N(1<<rnd.UintN(64)), 10)
			s += "." + digits[:1+rnd.IntN(len(digits))]
		}
		switch rnd.IntN(8) {
		case 0:
			s += "e" + strconv.Itoa(rnd.IntN(40)-20)
		case 1:
			s = "-" + s
		}
		number(s)
	}
	for range 100_000 { // times, as they are in every line
		number(strconv.FormatFloat(rnd.Float64()*1e10, 'f', rnd.IntN(9), 64))
	}
	checkRewritten(t, text)
}

func FuzzCanonical(f *testing.F) {
	seeds := 0
	names, _ := filepath.Glob(filepath.Join(corpus, "*", "*.flog"))
	for _, name := range names {
		for line := range bytes.Lines(read(f, name)) {
			if len(line) < 1000 {
				f.Add(bytes.TrimSuffix(line, []byte("\n")))
				seeds++
			}
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds: this target would pass and test nothing")
	}
	for _, text := range []string{`{"a": -0}`, `{"a": "\u000a\u007f\u00e9"}`, `{"a": "\ud83d\ude00\ud83d"}`, `{"a": "\u00E9\/"}`, `{"a": 1, "a": 2}`, `{"\u0061": 1, "a": 2}`, `{"a": [ ]}`, "{\"a\": \"\x7f\"}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.IndexByte(text, '\n') < 0 {
			checkRewritten(t, text)
		}
	})
}
