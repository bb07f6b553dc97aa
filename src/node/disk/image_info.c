#include "base/jsonio.h"
#include "node/disk/qcow2.h"

#define CID_NONE 4294967295LL /* A vmdk without a parent. */

static void
refuse(struct image_verdict *v, enum image_trouble trouble, const char *why)
{
    v->trouble = trouble;
    snprintf(v->why, sizeof v->why, "%s", why);
}

static void
judge_vmdk(const json_t *data, struct image_verdict *v)
{
    const char *type = json_string_value(json_object_get(data, "create-type"));
    const json_t *extents = json_object_get(data, "extents");
    const json_t *parent = json_object_get(data, "parent-cid");
    if (!str_eq(type, "monolithicSparse") && !str_eq(type, "streamOptimized")) {
        refuse(v, IMAGE_NAMES_OTHER_FILE, "the vmdk keeps its data in other files");
    } else if (json_array_size(extents) != 1) {
        refuse(v, IMAGE_NAMES_OTHER_FILE, "the vmdk has several extents");
    } else if (json_is_integer(parent) && json_integer_value(parent) != CID_NONE) {
        refuse(v, IMAGE_NAMES_OTHER_FILE, "the vmdk has a parent");
    }
}

void
image_judge_info(const char *json, size_t len, const char *format,
                 int64_t max_virtual_bytes, struct image_verdict *out)
{
    *out = (struct image_verdict){.format = format};
    AUTO(json) json_t *info = json_loadb(json, len, 0, NULL);
    const json_t *size = json_object_get(info, "virtual-size");
    const json_t *specific = json_object_get(info, "format-specific");
    const json_t *data = json_object_get(specific, "data");
    if (!json_is_integer(size) ||
        !str_eq(json_string_value(json_object_get(info, "format")), format)) {
        refuse(out, IMAGE_BAD_FORMAT, "qemu-img cannot read the image");
    } else if (json_object_get(info, "backing-filename") ||
               json_object_get(info, "full-backing-filename") ||
               json_object_get(data, "data-file")) {
        refuse(out, IMAGE_NAMES_OTHER_FILE, "the image names another file");
    } else if (json_is_true(json_object_get(info, "encrypted"))) {
        refuse(out, IMAGE_BAD_FORMAT, "the image is encrypted");
    } else if (json_integer_value(size) <= 0) {
        refuse(out, IMAGE_BAD_FORMAT, "the disk in the image is empty");
    } else if (json_integer_value(size) > QCOW2_VIRTUAL_MAX_BYTES ||
               (max_virtual_bytes > 0 &&
                json_integer_value(size) > max_virtual_bytes)) {
        refuse(out, IMAGE_TOO_LARGE, "the disk in the image is too large");
    } else if (str_eq(format, "vmdk")) {
        judge_vmdk(data, out);
    }
    out->virtual_bytes = json_is_integer(size) ? (int64_t)json_integer_value(size) : 0;
}
