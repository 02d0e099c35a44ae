package main

import (
	"bytes"
	"os"
	"testing"
)

// The picture in the repository is the one that this program draws.
func TestPictureIsUpToDate(t *testing.T) {
	got, err := os.ReadFile("../many-servers-growth.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, draw()) {
		t.Error("docs/many-servers-growth.svg is old: go run ./docs/growth > docs/many-servers-growth.svg")
	}
}
