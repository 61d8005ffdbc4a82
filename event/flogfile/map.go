package flogfile

import (
	"io"
	"sync"
)

// Map calls work with every block of r, on several goroutines at once, and emit
// with each block and its result in the order of the file, on the caller's.
// Each goroutine has a work function of its own, made by newWork, so that it may
// keep buffers; work may keep neither the block nor its lines. It is given a
// result that was emitted before, whose memory it may use again.
//
// The first block is worked on and emitted before the others are read, since it
// holds the header. Map returns the error of emit, or what ends the file, nil
// for its clean end.
func Map[T any](r *Reader, workers int, newWork func() func(b Block, old T) T, emit func(b Block, result T) error) error {
	var first Block
	if err := r.NextBlock(&first); err != nil {
		return clean(err)
	}
	work := newWork()
	if err := emit(first, work(first, *new(T))); err != nil {
		return err
	}

	type job struct {
		block  Block
		result T
		done   chan struct{}
	}
	// Memory is bounded by the jobs there are: each is read, worked on, emitted,
	// and read into again.
	const ahead = 3 // blocks for each worker: one worked on, one waiting, one being emitted
	free := make(chan *job, workers*ahead)
	for range cap(free) {
		free <- &job{done: make(chan struct{}, 1)}
	}
	todo := make(chan *job, cap(free))
	order := make(chan *job, cap(free))
	quit := make(chan struct{})

	var loops sync.WaitGroup
	defer loops.Wait()
	defer close(quit)
	loops.Go(func() {
		defer close(order)
		defer close(todo)
		for {
			select {
			case <-quit:
				return
			case j := <-free:
				if !r.read(&j.block) {
					return
				}
				order <- j
				todo <- j
			}
		}
	})
	for range workers {
		loops.Go(func() {
			work := newWork()
			for j := range todo {
				j.result = work(j.block, j.result)
				j.done <- struct{}{}
			}
		})
	}
	for j := range order {
		<-j.done
		if err := emit(j.block, j.result); err != nil {
			return err
		}
		free <- j
	}
	return clean(r.end()) // order is closed: nobody reads any more
}

func clean(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
