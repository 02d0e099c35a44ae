package main

import (
	"bytes"
	"os"
	"testing"
)

func TestPictureIsUpToDate(t *testing.T) {
	committed, err := os.ReadFile("../../docs/response.svg")
	if err != nil {
		t.Fatal(err)
	}
	var drawn bytes.Buffer
	if err := draw(&drawn); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, drawn.Bytes()) {
		t.Error("docs/response.svg is not what internal/diagram draws: run go run ./internal/diagram > docs/response.svg")
	}
}
