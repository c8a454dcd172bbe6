package report

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/zstd"
)

// Logs are in this folder of a report, each with its boot's id as its name.
const (
	logPrefix = "logs/"
	logSuffix = ".jsonl"
)

var bootID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Bounds for reading a report, which may come from anybody.
const (
	maxRead    = 4 << 30 // bytes, unpacked
	maxEntries = 4096
	maxWindow  = 64 << 20
)

// ErrNone is the error for a report without any log.
var ErrNone = errors.New("there is no log of a boot in this report")

// Is reports whether the file at path is a report: an archive, packed with zstd, and
// not a log that is.
func Is(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	z, err := unpacker(f)
	if err != nil {
		return false
	}
	defer z.Close()
	const at = 257 // of the magic in a header of tar, POSIX.1-1988
	head := make([]byte, 512)
	n, _ := io.ReadFull(z, head)
	return n == len(head) && bytes.HasPrefix(head[at:], []byte("ustar"))
}

func unpacker(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(bufio.NewReaderSize(r, 64<<10), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// Read calls log for each log of a boot in a report, in the order in which they are in
// it: the latest first. Nothing of the archive but the bytes of logs is handed on, and no
// name in it is used for anything else than to tell logs from the rest.
func Read(r io.Reader, log func(id string, text io.Reader) error) error {
	z, err := unpacker(r)
	if err != nil {
		return fmt.Errorf("unpack zstd: %w", err)
	}
	defer z.Close()
	all := &io.LimitedReader{R: z, N: maxRead}
	archive := tar.NewReader(all)
	found := map[string]bool{}
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && len(found) == 0:
			return ErrNone
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && all.N <= 0:
			return fmt.Errorf("the report unpacks to more than %s, which none does", humanize.IBytes(maxRead))
		case err != nil:
			return fmt.Errorf("read the archive: %w", err)
		case n == maxEntries:
			return fmt.Errorf("the report has more than %d files, which none has", maxEntries)
		}
		id, ok := strings.CutPrefix(h.Name, logPrefix)
		id, isLog := strings.CutSuffix(id, logSuffix)
		if !ok || !isLog || h.Typeflag != tar.TypeReg || !bootID.MatchString(id) || found[id] {
			continue
		}
		found[id] = true
		if err := log(id, archive); err != nil {
			return err
		}
	}
}
