package main

import (
	"bytes"
	"os"
	"testing"
)

// The picture in the repository is the one that this program draws.
func TestPictureIsUpToDate(t *testing.T) {
	got, err := os.ReadFile("../request.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, draw()) {
		t.Error("docs/request.svg is old: go run ./docs/picture > docs/request.svg")
	}
}
