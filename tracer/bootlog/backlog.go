package bootlog

import (
	"bytes"
	"io"
	"slices"
)

// blockSize is the size of a backlog's blocks, in bytes.
const blockSize = 64 << 10

// backlog is text that waits for the disk, first in, first out. It is kept in blocks:
// one slice that grows is copied into a larger one each time, and while the host boots
// all of these wait for a garbage collection, which came to several times what waited.
//
// What is added goes behind what is there, so slices that were handed out stay as they
// are until what is in them is dropped.
type backlog struct {
	blocks [][]byte // each of blockSize, the last not full
	head   int      // bytes of the first that were dropped
	size   int
	spare  []byte // one block that was dropped
}

func (b *backlog) add(text []byte) {
	b.size += len(text)
	for len(text) > 0 {
		last := len(b.blocks) - 1
		if last < 0 || len(b.blocks[last]) == blockSize {
			block := b.spare
			if b.spare = nil; block == nil {
				block = make([]byte, 0, blockSize)
			}
			b.blocks = append(b.blocks, block[:0])
			last++
		}
		block := b.blocks[last]
		n := min(len(text), blockSize-len(block))
		b.blocks[last] = append(block, text[:n]...)
		text = text[n:]
	}
}

// from returns what follows the first n bytes, in pieces.
func (b *backlog) from(n int) [][]byte {
	n += b.head
	if n/blockSize >= len(b.blocks) {
		return nil
	}
	pieces := slices.Clone(b.blocks[n/blockSize:])
	pieces[0] = pieces[0][n%blockSize:]
	return pieces
}

// drop forgets the first n bytes. Nobody may look at them any more.
func (b *backlog) drop(n int) {
	b.size -= n
	b.head += n
	whole := b.head / blockSize
	if b.size == 0 {
		whole, b.head = len(b.blocks), 0
	}
	if whole == 0 {
		return
	}
	b.spare = b.blocks[whole-1][:0]
	b.blocks = slices.Delete(b.blocks, 0, whole)
	if len(b.blocks) == 0 {
		b.blocks = nil
	} else {
		b.head -= whole * blockSize
	}
}

// memory is how many bytes are allocated for it.
func (b *backlog) memory() int {
	n := len(b.blocks) * blockSize
	if b.spare != nil {
		n += blockSize
	}
	return n
}

// reader reads pieces.
func reader(pieces [][]byte) io.Reader {
	readers := make([]io.Reader, len(pieces))
	for i, piece := range pieces {
		readers[i] = bytes.NewReader(piece)
	}
	return io.MultiReader(readers...)
}
