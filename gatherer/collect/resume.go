package collect

import "container/heap"

// resume finds the name from which on a publisher is to be asked for incidents
// when it comes back: the greatest settled one below which none is open.
// Everything above it will be announced again.
type resume struct {
	open    map[string]bool // announced, and neither stored nor known to be gone
	waiting names           // of open, and some that are settled by now
	settled names           // above mark
	lost    string          // the smallest name that was announced and not kept; "" if none
	mark    string
}

func newResume(mark string) *resume { return &resume{open: map[string]bool{}, mark: mark} }

// announce opens name.
func (r *resume) announce(name string) {
	if !r.open[name] {
		r.open[name] = true
		heap.Push(&r.waiting, name)
	}
}

// lose notes that name was announced and is not kept: the mark stays below it.
func (r *resume) lose(name string) {
	if r.lost == "" || name < r.lost {
		r.lost = name
	}
}

// settle closes name.
func (r *resume) settle(name string) {
	if !r.open[name] {
		return
	}
	delete(r.open, name)
	heap.Push(&r.settled, name)
	for len(r.waiting) > 0 && !r.open[r.waiting[0]] {
		heap.Pop(&r.waiting)
	}
	for len(r.settled) > 0 && (len(r.waiting) == 0 || r.settled[0] < r.waiting[0]) && (r.lost == "" || r.settled[0] < r.lost) {
		r.mark = max(r.mark, heap.Pop(&r.settled).(string))
	}
}

// names is a heap, the smallest first.
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
