/* moln image ls, build, import, rm. */
#include "base/file.h"
#include "cli/command.h"
#include "cli/image.h"
#include "cli/listing.h"
#include "cli/upload.h"
#include <errno.h>
#include <sys/wait.h>

#define IMPORT_WAIT_S 3600
#define POLL_MS 500

static void
put_image(struct cli *cli, struct grid *grid, json_t *image)
{
    grid_put(grid, json_text(cli->arena, image, "ImageId"));
    grid_put(grid, json_text(cli->arena, image, "Name"));
    grid_put(grid, json_text(cli->arena, image, "State"));
    int64_t gib = json_int(image, "BlockDeviceMappings.0.Ebs.VolumeSize");
    if (gib) {
        grid_printf(grid, "%" PRId64 " GiB", gib);
    } else {
        grid_put(grid, "");
    }
    grid_put(grid, json_bool(image, "Public") ? "everybody" : "this account");
    grid_put(grid, json_text(cli->arena, image, "CreationDate"));
}

static const struct listing images = {
    (const char *const[]){"IMAGE", "NAME", "STATE", "SIZE", "FOR", "CREATED", NULL},
    put_image, "No images. 'moln image build micro' makes one."};

static bool
run_ls(struct cli *cli, const struct args *args UNUSED, struct err *err)
{
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2_all(cli, "DescribeImages", NULL, "Images", &answer, err)) {
        return false;
    }
    listing_print(cli, &images, answer, "Images");
    return true;
}

static bool
run_rm(struct cli *cli, const struct args *args, struct err *err)
{
    for (size_t i = 0; i < args->word_count; i++) {
        const char *id, *root;
        AUTO(form) struct form form = {0};
        AUTO(json) json_t *answer = NULL;
        if (!image_find(cli, args->words[i], &id, &root, err)) {
            return false;
        }
        if (args_has(args, "platform")) {
            AUTO(json) json_t *in = json_pack("{ss}", "ImageId", id);
            if (!api_operator(cli, "DeregisterPlatformImage", in, &answer, err)) {
                return false;
            }
        } else {
            form_put(&form, "ImageId", id);
            if (!api_ec2(cli, "DeregisterImage", &form, &answer, err)) {
                return false;
            }
        }
        printf("%s  deregistered\n", id);
    }
    return true;
}

/* ---- import as a tenant ---------------------------------------------------------- */

static bool
wait_task(struct cli *cli, const char *task, json_t **out, struct err *err)
{
    AUTO(form) struct form form = {0};
    form_put(&form, "ImportTaskId.1", task);
    int64_t end = clock_mono(cli->clock) + IMPORT_WAIT_S * NS_PER_S;
    while (clock_mono(cli->clock) < end) {
        AUTO(json) json_t *answer = NULL;
        if (!api_ec2(cli, "DescribeImportImageTasks", &form, &answer, err)) {
            return false;
        }
        json_t *at = json_at(answer, "ImportImageTasks.0");
        const char *status = json_text(cli->arena, at, "Status");
        if (str_eq(status, "completed")) {
            *out = json_incref(at);
            return true;
        }
        if (str_starts(status, "delet")) {
            return err_set(err, ERR_SYSTEM, "the import failed: %s",
                           json_text(cli->arena, at, "StatusMessage"));
        }
        cli_sleep_ms(POLL_MS);
    }
    return err_set(err, ERR_TIMEOUT, "%s is not done after %d s", task, IMPORT_WAIT_S);
}

/* An imported image has no name of its own at AWS either: a Name tag carries it. */
static bool
tag_name(struct cli *cli, const char *image, const char *name, struct err *err)
{
    AUTO(form) struct form form = {0};
    AUTO(json) json_t *answer = NULL;
    form_put(&form, "ResourceId.1", image);
    form_put(&form, "Tag.1.Key", "Name");
    form_put(&form, "Tag.1.Value", name);
    return api_ec2(cli, "CreateTags", &form, &answer, err);
}

static bool
import_as_tenant(struct cli *cli, const struct args *args, const char *file,
                 struct err *err)
{
    const char *url;
    AUTO(form) struct form form = {0};
    AUTO(json) json_t *answer = NULL, *task = NULL;
    if (!upload_file(cli, false, file, &url, err)) {
        return false;
    }
    form_put(&form, "DiskContainer.1.Url", url);
    if (args_has(args, "format")) {
        form_put(&form, "DiskContainer.1.Format", args_get(args, "format"));
    }
    if (args_has(args, "boot")) {
        form_put(&form, "BootMode",
                 str_eq(args_get(args, "boot"), "uefi") ? "uefi" : "legacy-bios");
    }
    if (args_has(args, "name")) {
        form_put(&form, "Description", args_get(args, "name"));
    }
    if (!api_ec2(cli, "ImportImage", &form, &answer, err)) {
        return false;
    }
    cli_progress("checking and converting");
    if (!wait_task(cli, json_text(cli->arena, answer, "ImportTaskId"), &task, err)) {
        return false;
    }
    const char *image = json_text(cli->arena, task, "ImageId");
    if (args_has(args, "name") && !tag_name(cli, image, args_get(args, "name"), err)) {
        return false;
    }
    if (cli->json) {
        json_print(task);
    } else {
        printf("%s\n", image);
    }
    return true;
}

/* ---- import as the operator: an image for everybody ------------------------------ */

struct platform_image {
    const char *name, *disk, *kernel, *initrd, *cmdline, *format, *boot;
};

static bool
wait_platform(struct cli *cli, const char *id, json_t **out, struct err *err)
{
    int64_t end = clock_mono(cli->clock) + IMPORT_WAIT_S * NS_PER_S;
    while (clock_mono(cli->clock) < end) {
        AUTO(json) json_t *answer = NULL;
        if (!api_operator_all(cli, "ListPlatformImages", NULL, "Images", &answer,
                              err)) {
            return false;
        }
        size_t i;
        json_t *image;
        json_array_foreach(json_object_get(answer, "Images"), i, image)
        {
            const char *state = json_text(cli->arena, image, "State");
            if (!str_eq(json_text(cli->arena, image, "ImageId"), id)) {
                continue;
            }
            if (str_eq(state, "available")) {
                *out = json_incref(image);
                return true;
            }
            if (str_eq(state, "failed")) {
                return err_set(err, ERR_SYSTEM, "the import failed: %s",
                               json_text(cli->arena, image, "StateReason"));
            }
        }
        cli_sleep_ms(POLL_MS);
    }
    return err_set(err, ERR_TIMEOUT, "%s is not ready after %d s", id, IMPORT_WAIT_S);
}

/* Uploads 'file', when there is one, and notes it as member 'name' of 'in'. */
static bool
put_upload(struct cli *cli, json_t *in, const char *name, const char *file,
           struct err *err)
{
    const char *url;
    if (!file) {
        return true;
    }
    if (!upload_file(cli, true, file, &url, err)) {
        return false;
    }
    /* The operators' service wants the upload's bare id. */
    json_object_set_new(in, name, json_string(url + strlen("moln-upload://")));
    return true;
}

static void
put_text(json_t *in, const char *name, const char *value)
{
    if (!str_empty(value)) {
        json_object_set_new(in, name, json_string(value));
    }
}

static bool
import_as_operator(struct cli *cli, const struct platform_image *ask, struct err *err)
{
    AUTO(json) json_t *in = json_object();
    AUTO(json) json_t *answer = NULL, *image = NULL;
    put_text(in, "Name", ask->name);
    put_text(in, "Format", ask->format);
    put_text(in, "BootMode", ask->kernel ? "direct" : ask->boot);
    put_text(in, "CommandLine", ask->cmdline);
    if (!put_upload(cli, in, "DiskUpload", ask->disk, err) ||
        !put_upload(cli, in, "KernelUpload", ask->kernel, err) ||
        !put_upload(cli, in, "RamdiskUpload", ask->initrd, err) ||
        !api_operator(cli, "ImportPlatformImage", in, &answer, err)) {
        return false;
    }
    cli_progress("checking and converting");
    if (!wait_platform(cli, json_text(cli->arena, answer, "Image.ImageId"), &image,
                       err)) {
        return false;
    }
    if (cli->json) {
        json_print(image);
    } else {
        printf("%s\n", json_text(cli->arena, image, "ImageId"));
    }
    return true;
}

/* Text of 'file' without its last newline, in the arena. */
static bool
read_line(struct cli *cli, const char *file, const char **out, struct err *err)
{
    AUTO(free) char *text = NULL;
    if (!file_read(file, 4096, &text, NULL, err)) {
        return false;
    }
    text[strcspn(text, "\n")] = '\0';
    *out = arena_strdup(cli->arena, text);
    return true;
}

static bool
run_import(struct cli *cli, const struct args *args, struct err *err)
{
    const char *file = args->words[0];
    if (!args_has(args, "platform") && !args_has(args, "kernel")) {
        return import_as_tenant(cli, args, file, err);
    }
    struct platform_image ask = {
        .name = args_get(args, "name"),
        .disk = file,
        .kernel = args_get(args, "kernel"),
        .initrd = args_get(args, "initrd"),
        .cmdline = args_get(args, "cmdline"),
        .format = args_get(args, "format"),
        .boot = args_get(args, "boot"),
    };
    if (!ask.name) {
        return cli_usage(err, "an image for everybody needs --name NAME");
    }
    return import_as_operator(cli, &ask, err);
}

/* ---- build ----------------------------------------------------------------------- */

/* share/images beside this program's build folder, or where 'make install' put it. */
static bool
recipe_path(struct cli *cli, const char *name, const char **out, struct err *err)
{
    const char *own = getenv("MOLN_SHARE");
    const char *slash = strrchr(cli->program, '/');
    int len = slash ? (int)(slash - cli->program) : 0;
    const char *places[] = {
        own ? arena_printf(cli->arena, "%s/images", own) : NULL,
        arena_printf(cli->arena, "%.*s/../share/images", len, cli->program),
        arena_printf(cli->arena, "%.*s/../share/moln/images", len, cli->program),
    };
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const char *path =
            places[i] ? arena_printf(cli->arena, "%s/%s/build", places[i], name) : NULL;
        if (path && access(path, X_OK) == 0) {
            *out = path;
            return true;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "there is no recipe for '%s': micro, debian-12",
                   name);
}

/* Runs the recipe; what it says goes to standard error, for --json's sake. */
static bool
run_recipe(const char *path, const char *out, const char *cache, struct err *err)
{
    pid_t child = fork();
    if (child < 0) {
        return err_sys(err, errno, "start %s", path);
    }
    if (child == 0) {
        (void)dup2(2, 1);
        (void)execl(path, path, out, cache, (char *)NULL);
        _exit(127);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return err_sys(err, errno, "wait for %s", path);
        }
    }
    return status == 0 || err_set(err, ERR_SYSTEM, "%s failed", path);
}

/* Where recipes keep packages: MOLN_CACHE, else the state folder or the user's own. */
static const char *
cache_folder(struct cli *cli)
{
    const char *own = getenv("MOLN_CACHE");
    if (!str_empty(own)) {
        return own;
    }
    const char *in_state = cli_path(cli, "cache");
    const char *home = getenv("HOME");
    if (access(cli->state, W_OK) == 0 || str_empty(home)) {
        return in_state;
    }
    return arena_printf(cli->arena, "%s/.cache/moln/images", home);
}

static bool
register_built(struct cli *cli, const char *name, const char *out, struct err *err)
{
    struct platform_image ask = {
        .name = name,
        .format = "qcow2",
        .disk = arena_printf(cli->arena, "%s/disk.qcow2", out),
    };
    const char *kernel = arena_printf(cli->arena, "%s/vmlinuz", out);
    if (file_exists(kernel)) {
        ask.kernel = kernel;
        ask.initrd = arena_printf(cli->arena, "%s/initrd", out);
        if (!read_line(cli, arena_printf(cli->arena, "%s/cmdline", out), &ask.cmdline,
                       err)) {
            return false;
        }
    } else {
        ask.boot = "bios";
    }
    return import_as_operator(cli, &ask, err);
}

static bool
run_build(struct cli *cli, const struct args *args, struct err *err)
{
    const char *name = args->words[0], *recipe = NULL;
    if (strchr(name, '/')) {
        return cli_usage(err, "'%s' is no recipe's name", name);
    }
    if (!recipe_path(cli, name, &recipe, err)) {
        return false;
    }
    const char *cache = cache_folder(cli);
    const char *out = args_get(args, "out");
    bool keep = out != NULL;
    if (!out) {
        out = arena_printf(cli->arena, "%s/%s.%d", cache, name, (int)getpid());
    }
    if (!dir_make(out, 0755, err) || !run_recipe(recipe, out, cache, err)) {
        return false;
    }
    if (keep) {
        printf("%s\n", out);
        return true;
    }
    return register_built(cli, args_get(args, "name") ? args_get(args, "name") : name,
                          out, err) &&
           dir_remove(out, err);
}

static const struct option build_options[] = {
    {"name", 0, "NAME", "of the image (the recipe's)"},
    {"out", 0, "DIR", "leave the files there, and register nothing"},
    {NULL, 0, NULL, NULL},
};
static const struct option import_options[] = {
    {"name", 0, "NAME", "of the image"},
    {"format", 0, "FORMAT", "qcow2, raw or vmdk (found out)"},
    {"boot", 0, "MODE", "bios or uefi (found out)"},
    {"platform", 0, NULL, "for all accounts; operators only"},
    {"kernel", 0, "FILE", "boot this kernel directly; operators only"},
    {"initrd", 0, "FILE", "with this initial RAM disk"},
    {"cmdline", 0, "TEXT", "and this command line"},
    {NULL, 0, NULL, NULL},
};
static const struct option rm_options[] = {
    {"platform", 0, NULL, "an image for all accounts; operators only"},
    {NULL, 0, NULL, NULL},
};

const struct command image_commands[] = {
    {"image ls", "", "list images that can be launched", "  moln image ls\n", NULL, 0,
     0, WORD_NONE, false, run_ls},
    {"image build", "micro|debian-12", "make a built-in image (operators)",
     "micro takes seconds: Debian's cloud kernel, busybox and dropbear. debian-12 "
     "takes\n"
     "minutes: a full Debian with systemd, cloud-init and its own boot loader. Both "
     "come\n"
     "from the Debian packages that this host's apt knows.\n"
     "\n"
     "  moln image build debian-12\n"
     "  moln image build micro --out /tmp/micro\n",
     build_options, 1, 1, WORD_NONE, false, run_build},
    {"image import", "FILE [--name NAME]", "bring in a disk made elsewhere",
     "Any qcow2, raw or vmdk that boots by BIOS or UEFI. It is streamed to the API,\n"
     "inspected and converted there. A disk that names another file is refused.\n"
     "\n"
     "  moln image import debian-12-generic-amd64.qcow2 --name debian-generic\n",
     import_options, 1, 1, WORD_FILE, false, run_import},
    {"image rm", "IMAGE...", "deregister images; what was launched goes on",
     "  moln image rm ami-0123456789abcdef0\n", rm_options, 1, 100, WORD_IMAGE, false,
     run_rm},
    {NULL},
};
