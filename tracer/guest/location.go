package guest

import (
	"strconv"
	"strings"
)

// driverClass is what a block driver does with the nodes below it.
type driverClass uint8

const (
	classFormat  driverClass = iota // an image format; also any driver that is not known
	classLocal                      // opens a local path
	classNetwork                    // talks to a server
	classOther                      // local, but opens no image
	classFilter                     // passes its child through
	classQuorum
	classVerify // blkverify
)

// driverClasses has qemu's block drivers that are not image formats
// (qapi/block-core.json, BlockdevDriver; removed ones included).
var driverClasses = map[string]driverClass{
	"file": classLocal, "host_device": classLocal, "host_cdrom": classLocal, "host_floppy": classLocal,

	"nbd": classNetwork, "rbd": classNetwork, "iscsi": classNetwork, "iser": classNetwork, "nfs": classNetwork,
	"ssh": classNetwork, "gluster": classNetwork, "sheepdog": classNetwork, "vxhs": classNetwork,
	"http": classNetwork, "https": classNetwork, "ftp": classNetwork, "ftps": classNetwork, "tftp": classNetwork,
	"archipelago": classNetwork,

	"nvme": classOther, "null-co": classOther, "null-aio": classOther, "vvfat": classOther,
	"io_uring": classOther, "nvme-io_uring": classOther, "virtio-blk-vfio-pci": classOther,
	"virtio-blk-vhost-user": classOther, "virtio-blk-vhost-vdpa": classOther,

	"throttle": classFilter, "copy-on-read": classFilter, "blkdebug": classFilter, "blklogwrites": classFilter,
	"blkreplay": classFilter, "compress": classFilter, "preallocate": classFilter, "replication": classFilter,
	"copy-before-write": classFilter, "snapshot-access": classFilter,

	"quorum": classQuorum, "blkverify": classVerify,
}

// protocolDrivers are the file name prefixes that are not the name of their
// driver.
var protocolDrivers = map[string]string{
	"fat": "vvfat", "nbd+unix": "nbd", "nbd+tcp": "nbd", "nbds": "nbd", "nbds+unix": "nbd",
	"sheepdog+tcp": "sheepdog", "sheepdog+unix": "sheepdog",
	"gluster+tcp": "gluster", "gluster+unix": "gluster", "gluster+rdma": "gluster",
}

// protocol returns the prefix of a file name as qemu sees it: what stands
// before a colon that comes before any slash (path_has_protocol in block.c).
func protocol(name string) (string, bool) {
	n := strings.IndexAny(name, ":/")
	if n <= 0 || name[n] != ':' {
		return "", false
	}
	return name[:n], true
}

// locate reads a file name as -drive file= takes it, with its protocol. The
// format is left empty.
func (b *builder) locate(name string) Image {
	prefix, ok := protocol(name)
	if !ok {
		return local(name)
	}
	driver := prefix
	if d := protocolDrivers[prefix]; d != "" {
		driver = d
	}
	rest := name[len(prefix)+1:]
	switch {
	case driverClasses[driver] == classLocal:
		return local(rest)
	case driver == "blkdebug": // blkdebug:CONFIG:FILE
		_, file, _ := strings.Cut(rest, ":")
		return b.nested(file)
	case driver == "blkverify": // blkverify:RAW:TEST
		raw, test, _ := strings.Cut(rest, ":")
		return Image{Storage: StorageNone, Members: []Image{b.nested(raw), b.nested(test)}}
	case driverClasses[driver] == classNetwork:
		return Image{Path: name, Storage: StorageNetwork, Protocol: driver}
	case driverClasses[driver] == classOther:
		return Image{Path: name, Storage: StorageOther, Protocol: driver}
	default:
		b.problem(name, "file name with the unknown protocol "+strconv.Quote(prefix))
		return Image{Path: name, Storage: StorageNone, Protocol: prefix}
	}
}

// nested reads the file name within another.
func (b *builder) nested(name string) Image {
	if !b.enter(name) {
		return Image{Storage: StorageNone}
	}
	defer b.leave()
	return b.locate(name)
}

// local is a path that qemu opens itself.
func local(path string) Image {
	if fd, ok := descriptor(path); ok {
		return Image{Path: path, Storage: StorageFD, FD: fd}
	}
	if path == "" {
		return Image{Storage: StorageNone}
	}
	return Image{Path: path, Storage: StorageFile, Needs: true}
}

// descriptor recognises a path that names an open descriptor.
func descriptor(path string) (*FD, bool) {
	if n, ok := pathNumber(path, "/dev/fdset/"); ok {
		return &FD{Set: n}, true
	}
	for _, prefix := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if n, ok := pathNumber(path, prefix); ok {
			return &FD{Set: -1, FDs: []int{n}}, true
		}
	}
	return nil, false
}

func pathNumber(path, prefix string) (int, bool) {
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(rest)
	return n, err == nil && n >= 0
}

// remote is a node of network or other storage, given key by key.
func remote(driver string, v *value, storage Storage) Image {
	address := v.first("filename", "url", "uri", "dir", "path")
	if address == "" || v.get("server") != nil {
		address = composed(v)
	}
	return Image{Path: address, Storage: storage, Protocol: driver}
}

// composed makes an address of single keys: the server, then what it is asked
// for, with slashes between.
func composed(v *value) string {
	server := v.get("server")
	if servers := server.elements(); len(servers) > 0 {
		server = servers[0] // gluster has a list of them
	}
	host := v.first("host", "portal", "device")
	port := v.str("port")
	if server != nil {
		host = server.first("host", "path", "str")
		port = server.str("port")
	}
	if port != "" {
		host += ":" + port
	}
	parts := []string{host}
	for _, key := range []string{"pool", "namespace", "volume", "vdi", "vdisk-id", "target", "image", "path", "export", "lun"} {
		if s := strings.Trim(v.str(key), "/"); s != "" && s != host {
			parts = append(parts, s)
		}
	}
	return strings.TrimPrefix(strings.Join(parts, "/"), "/")
}
