package flogfile_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/event/flogfile"
)

// Blocks come out in the order of the file, each once, and what a worker finds
// wrong in the last of them is not lost.
func TestMap(t *testing.T) {
	lines := sampleLines(20_000)
	whole := flogfile.Magic + string(bytes.Join(lines, nil))
	for _, c := range []struct {
		name, text string
		damage     bool
	}{
		{"whole", whole, false},
		{"cut at the end", whole[:len(whole)-10], true},
		{"damaged in the middle", strings.Replace(whole, `"num": 15000,`, `"num": ,`, 1), true},
		{"empty", flogfile.Magic, false},
	} {
		for range 20 {
			r, err := flogfile.NewReader(strings.NewReader(c.text), c.name)
			if err != nil {
				t.Fatal(err)
			}
			type result struct {
				out    []byte
				damage flogfile.DamageError
			}
			var out []byte
			err = flogfile.Map(r, 3, func() func(flogfile.Block, result) result {
				var line flogfile.Line
				return func(b flogfile.Block, old result) result {
					res := result{out: old.out[:0]}
					b.Lines(&line, &res.damage, func(l *flogfile.Line) bool {
						res.out = append(append(res.out, l.Raw...), '\n')
						return true
					})
					return res
				}
			}, func(_ flogfile.Block, res result) error {
				r.Damage().Merge(&res.damage)
				out = append(out, res.out...)
				return nil
			})
			damage, ok := errors.AsType[*flogfile.DamageError](err)
			if ok != c.damage || ok && damage.Lines != 1 || err != nil && !ok {
				t.Fatalf("%s: %v", c.name, err)
			}
			if !c.damage && flogfile.Magic+string(out) != c.text {
				t.Fatalf("%s: the lines are not those of the file", c.name)
			}
			if c.damage && bytes.Count(out, []byte("\n")) != len(lines)-1 {
				t.Fatalf("%s: %d lines", c.name, bytes.Count(out, []byte("\n")))
			}
		}
	}
}

// An error of emit ends the reading, and no goroutine is left behind.
func TestMapStops(t *testing.T) {
	r, err := flogfile.NewReader(strings.NewReader(flogfile.Magic+string(bytes.Join(sampleLines(20_000), nil))), "x")
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	blocks := 0
	err = flogfile.Map(r, 2, func() func(flogfile.Block, int) int {
		return func(flogfile.Block, int) int { return 0 }
	}, func(flogfile.Block, int) error {
		if blocks++; blocks == 3 {
			return enough
		}
		return nil
	})
	if err != enough || blocks != 3 {
		t.Errorf("%v after %d blocks", err, blocks)
	}
}
