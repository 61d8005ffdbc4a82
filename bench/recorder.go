package main

func benchRecorder(r *report) {}
