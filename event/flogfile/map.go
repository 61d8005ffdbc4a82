package flogfile

import (
	"io"
	"sync"
)

// Map processes the blocks of r on several goroutines, workers of them. For each block
// it calls a work function, and with the result emit: in the order of the file, on the
// caller's goroutine. The first block holds the header: Map emits it before it
// processes another.
//
// newWork makes a work function for each goroutine, so that it can keep buffers. work
// gets the block and an earlier result, which was emitted, to reuse its memory. It must
// keep neither the block nor its lines.
//
// Map returns when all goroutines have ended. The error is that of emit, which ends
// Map at once, or that of [Reader.Next] at the end of the file, nil instead of io.EOF.
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
	// The number of jobs bounds memory: a job is read, processed, emitted, and read
	// into again.
	const ahead = 3 // jobs for each worker: one processed, one waiting, one being emitted
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
	return clean(r.end()) // order is closed: the reading goroutine has ended
}

func clean(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
