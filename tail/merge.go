package tail

import (
	"cmp"
	"container/heap"
	"context"
	"io"
	"math"
	"slices"
	"sort"

	"github.com/flogtool/flogtool/event/flogfile"
)

// A gatherer writes events in the order in which they arrive, and those of several
// publishers arrive with different delays. The lines of each file therefore pass
// through a window that sorts them by time. The window of a file holds
//
//   - at least windowLeast lines, so that one event with a wrong time does not
//     empty it,
//   - more, up to windowMost, while the latest line is less than windowTime after
//     the earliest in the window,
//   - but only one line while the windows of all files hold windowBytes.
//
// An event that arrives later than the window reaches is out of order in the output too.
// Lines of equal time keep the order of the file.
const (
	windowLeast = 1024     // lines; taste
	windowMost  = 16384    // lines; taste
	windowTime  = 30.0     // seconds; publishers send batches up to a few seconds late
	windowBytes = 64 << 20 // of the lines of all files
)

// lookahead is a line in the window of a file.
type lookahead struct {
	time   float64 // of the event, or of the one before if the line has no time
	number int     // as flogfile.Line.Number
	offset int64   // as flogfile.Line.Offset
	raw    []byte
}

// stream is a file in a merge.
type stream struct {
	name  string
	place int     // among the files
	start float64 // the earliest time in its first window, -Inf if that has none
	bytes *int64  // in the windows of all files

	r      *flogfile.Reader
	ended  bool         // all lines are read
	last   float64      // time of the last line that was read
	head   []*lookahead // lines before the first with a time, which precede all others
	window []*lookahead // by time, and of equal times in the order of the file
	free   []*lookahead
	line   flogfile.Line // the line that is passed on
}

// fill reads lines into the window, as many as it may hold.
func (st *stream) fill() {
	for !st.ended && st.hasRoom() {
		l, err := st.r.Next()
		if err != nil { // close asks for it again
			st.ended = true
			return
		}
		st.add(l)
	}
}

func (st *stream) hasRoom() bool {
	switch n := len(st.window); {
	case n == 0:
		return true
	case n >= windowMost || *st.bytes >= windowBytes:
		return false
	default:
		return n < windowLeast || st.last-st.window[0].time < windowTime
	}
}

func (st *stream) add(l *flogfile.Line) {
	a := &lookahead{}
	if n := len(st.free); n > 0 {
		a, st.free = st.free[n-1], st.free[:n-1]
	}
	if t, ok := l.Seconds(); ok && !math.IsNaN(t) {
		st.last = t
	}
	*a = lookahead{time: st.last, number: l.Number, offset: l.Offset, raw: append(a.raw[:0], l.Raw...)}
	*st.bytes += int64(len(a.raw))
	if math.IsInf(st.last, -1) && len(st.head) < windowLeast {
		st.head = append(st.head, a)
		return
	}
	at := len(st.window)
	if at > 0 && st.window[at-1].time > a.time { // most events are in order
		at = sort.Search(at, func(i int) bool { return st.window[i].time > a.time })
	}
	st.window = slices.Insert(st.window, at, a)
}

// next returns the next lines: the first of the window, and at the start of the file the
// lines before it. It returns none at the end of the file. The caller returns each with put.
func (st *stream) next() []*lookahead {
	lines := st.head
	st.head = nil
	if len(st.window) > 0 {
		lines = append(lines, st.window[0])
		st.window = st.window[1:]
	}
	return lines
}

// put takes back what next returned.
func (st *stream) put(a *lookahead) {
	*st.bytes -= int64(len(a.raw))
	if cap(a.raw) <= 1<<16 {
		st.free = append(st.free, a)
	}
}

// close closes the file. It returns the error that ended it, or io.EOF if it was read
// completely.
func (st *stream) close() error {
	st.r.Close()
	if !st.ended {
		return io.EOF
	}
	_, err := st.r.Next() // includes what has been added to r.Damage() since the end
	return err
}

// streams is a heap of files, ordered by the time of their next line, then by name.
type streams []*stream

func (h streams) Len() int { return len(h) }
func (h streams) Less(i, j int) bool {
	if a, b := h[i].window[0].time, h[j].window[0].time; a != b {
		return a < b
	}
	return compareNames(h[i], h[j]) < 0
}
func (h streams) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *streams) Push(x any)   { *h = append(*h, x.(*stream)) }
func (h *streams) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func compareNames(a, b *stream) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.place, b.place))
}

// merged merges the files. It opens a file only when its first event is next, and closes it
// after the last, since a gatherer's directory may have thousands of files.
func (s *sources) merged(ctx context.Context, f func(l *flogfile.Line, r *flogfile.Reader) error) error {
	var bytes int64
	var waiting []*stream
	for i, name := range s.names {
		st := &stream{name: name, place: i, start: math.Inf(-1), last: math.Inf(-1), bytes: &bytes}
		if name != "-" {
			var err error
			if st.start, err = s.firstTime(name); err != nil {
				s.damages = append(s.damages, err)
				continue
			}
		}
		waiting = append(waiting, st)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	slices.SortFunc(waiting, func(a, b *stream) int {
		return cmp.Or(cmp.Compare(a.start, b.start), compareNames(a, b))
	})
	var open streams
	defer func() {
		for _, st := range open {
			st.close()
		}
	}()
	// pass passes the next lines of st to f.
	pass := func(st *stream) error {
		for _, a := range st.next() {
			st.line.Reset(a.raw, a.number, a.offset)
			if err := f(&st.line, st.r); err != nil {
				return err
			}
			st.put(a)
		}
		return nil
	}
	for n := 0; len(open) > 0 || len(waiting) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		for len(waiting) > 0 && (len(open) == 0 || waiting[0].start <= open[0].window[0].time) {
			st := waiting[0]
			waiting = waiting[1:]
			var err error
			if st.r, err = s.open(st.name); err != nil {
				s.damages = append(s.damages, err)
				continue
			}
			if st.fill(); len(st.window) > 0 {
				heap.Push(&open, st)
				continue
			}
			err = pass(st) // lines without a time, if any
			s.fault(st.close())
			if err != nil {
				return err
			}
		}
		if len(open) == 0 {
			continue
		}
		st := open[0]
		if err := pass(st); err != nil {
			return err
		}
		if st.fill(); len(st.window) > 0 {
			heap.Fix(&open, 0)
			continue
		}
		heap.Pop(&open)
		s.fault(st.close())
	}
	return nil
}

// firstTime returns the earliest time in the first window of a file, or -Inf if that has no
// time.
func (s *sources) firstTime(name string) (float64, error) {
	r, err := flogfile.OpenSelected(name, s.want)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	st := &stream{name: name, last: math.Inf(-1), bytes: new(int64), r: r}
	if st.fill(); len(st.window) == 0 {
		return math.Inf(-1), nil // errors are reported when the file is read
	}
	return st.window[0].time, nil
}
