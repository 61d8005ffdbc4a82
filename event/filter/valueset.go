package filter

import (
	"cmp"
	"math"
	"slices"
)

// valueSet is a set of values that an expression can have.
type valueSet struct {
	whole   bool   // numbers are whole
	numbers []span // ascending and disjoint
	texts   textSet
	others  bool // some of nil, true, false, NaN, lists and maps
}

// span is a range of numbers.
type span struct {
	min, max         float64 // may be infinite
	minOpen, maxOpen bool    // the end does not belong to the range
}

// textSet is a set of texts: those of list, or all except those of list.
type textSet struct {
	except bool
	list   []string
}

var (
	allNumbers = []span{{min: math.Inf(-1), max: math.Inf(1)}}
	allTexts   = textSet{except: true}
	allValues  = valueSet{numbers: allNumbers, texts: allTexts, others: true}
)

func (v valueSet) empty() bool {
	return len(v.numbers) == 0 && !v.texts.except && len(v.texts.list) == 0 && !v.others
}

// and returns the values that are in both sets.
func (v valueSet) and(w valueSet) valueSet {
	out := valueSet{whole: v.whole || w.whole, others: v.others && w.others, texts: v.texts.and(w.texts)}
	for _, a := range v.numbers {
		for _, b := range w.numbers {
			s := a.and(b)
			if out.whole {
				s = s.rounded()
			}
			if !s.empty() {
				out.numbers = append(out.numbers, s)
			}
		}
	}
	return out
}

// or returns the values that are in at least one of the sets.
func (v valueSet) or(w valueSet) valueSet {
	out := valueSet{whole: v.whole && w.whole, others: v.others || w.others, texts: v.texts.or(w.texts)}
	spans := slices.Concat(v.numbers, w.numbers)
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.min != b.min:
			return cmp.Compare(a.min, b.min)
		case a.minOpen == b.minOpen:
			return 0
		case b.minOpen:
			return -1
		}
		return 1
	})
	for _, s := range spans {
		if last := len(out.numbers) - 1; last >= 0 && !out.numbers[last].before(s) {
			if l := &out.numbers[last]; s.max > l.max || s.max == l.max && !s.maxOpen {
				l.max, l.maxOpen = s.max, s.maxOpen
			}
			continue
		}
		out.numbers = append(out.numbers, s)
	}
	return out
}

// not returns the values that are not in v. It always contains the others, even if v
// does: v may hold some of them, such as nil.
func (v valueSet) not() valueSet {
	out := valueSet{texts: v.texts.not(), others: true}
	gap := span{min: math.Inf(-1)}
	for _, s := range v.numbers {
		gap.max, gap.maxOpen = s.min, !s.minOpen
		if !math.IsInf(s.min, -1) && !gap.empty() {
			out.numbers = append(out.numbers, gap)
		}
		gap = span{min: s.max, minOpen: !s.maxOpen}
	}
	gap.max, gap.maxOpen = math.Inf(1), false
	if !math.IsInf(gap.min, 1) {
		out.numbers = append(out.numbers, gap)
	}
	return out
}

func (s span) and(t span) span {
	if t.min > s.min || t.min == s.min && t.minOpen {
		s.min, s.minOpen = t.min, t.minOpen
	}
	if t.max < s.max || t.max == s.max && t.maxOpen {
		s.max, s.maxOpen = t.max, t.maxOpen
	}
	return s
}

func (s span) empty() bool { return s.min > s.max || s.min == s.max && (s.minOpen || s.maxOpen) }

// before reports whether s ends before t begins, with a number between them that
// is in neither.
func (s span) before(t span) bool { return s.max < t.min || s.max == t.min && s.maxOpen && t.minOpen }

// rounded returns the range from the first whole number in s to the last.
func (s span) rounded() span {
	if !math.IsInf(s.min, 0) {
		first := math.Ceil(s.min)
		if first == s.min && s.minOpen {
			first++
		}
		s.min, s.minOpen = first, false
	}
	if !math.IsInf(s.max, 0) {
		last := math.Floor(s.max)
		if last == s.max && s.maxOpen {
			last--
		}
		s.max, s.maxOpen = last, false
	}
	return s
}

func (t textSet) has(s string) bool { return slices.Contains(t.list, s) != t.except }

func (t textSet) and(u textSet) textSet {
	switch {
	case t.except && u.except:
		return textSet{except: true, list: slices.Concat(t.list, u.list)}
	case t.except:
		t, u = u, t
	}
	out := textSet{}
	for _, s := range t.list {
		if u.has(s) {
			out.list = append(out.list, s)
		}
	}
	return out
}

func (t textSet) not() textSet { return textSet{except: !t.except, list: t.list} }

func (t textSet) or(u textSet) textSet { return t.not().and(u.not()).not() }
