package collect

import "container/heap"

// resume finds the name since which a publisher must be asked for incidents when it
// comes back: its mark, the greatest settled name below which no offer is open.
// Everything above will be offered again.
type resume struct {
	open    map[string]bool // offered, and neither stored nor known to be gone
	waiting names           // those in open, and some that are settled
	settled names           // above mark
	skipped string          // the smallest name that was offered and is not open; "" if none
	limit   string          // no greater name becomes the mark; "": any may
	mark    string
}

func newResume(mark string) *resume { return &resume{open: map[string]bool{}, mark: mark} }

// add opens name.
func (r *resume) add(name string) {
	if !r.open[name] {
		r.open[name] = true
		heap.Push(&r.waiting, name)
	}
}

// skip notes that name was offered and will not be settled: the mark stays below
// it.
func (r *resume) skip(name string) {
	if r.skipped == "" || name < r.skipped {
		r.skipped = name
	}
}

// settle closes name, if it is open.
func (r *resume) settle(name string) {
	if !r.open[name] {
		return
	}
	delete(r.open, name)
	heap.Push(&r.settled, name)
	for len(r.waiting) > 0 && !r.open[r.waiting[0]] {
		heap.Pop(&r.waiting)
	}
	for len(r.settled) > 0 && (len(r.waiting) == 0 || r.settled[0] < r.waiting[0]) && (r.skipped == "" || r.settled[0] < r.skipped) {
		if name := heap.Pop(&r.settled).(string); r.limit == "" || name <= r.limit {
			r.mark = max(r.mark, name)
		}
	}
}

// names is a heap; the smallest is first.
type names []string

func (n names) Len() int           { return len(n) }
func (n names) Less(i, j int) bool { return n[i] < n[j] }
func (n names) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }
func (n *names) Push(x any)        { *n = append(*n, x.(string)) }
func (n *names) Pop() any {
	last := (*n)[len(*n)-1]
	*n = (*n)[:len(*n)-1]
	return last
}
