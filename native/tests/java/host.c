// What Host.java calls: libfastq behind JNI, which every Java has.
#include <jni.h>
#include <string.h>

#include "../../include/fastq.h"

JNIEXPORT jstring JNICALL Java_Host_thereAndBack(JNIEnv *java, jclass class, jstring text);

static jstring there_and_back(JNIEnv *java, fastq_connection c, const char *text) {
    fastq_queue queue;
    fastq_subscription s;
    fastq_message message;
    size_t came = 0;
    char body[64] = {0};
    if (fastq_declare_queue(c, "host", NULL, NULL) != FASTQ_OK || fastq_open_queue(c, "host", &queue) != FASTQ_OK
        || fastq_publish(c, queue, text, strlen(text), NULL, 0, FASTQ_DURABLE, NULL) != FASTQ_OK || fastq_flush(c, FASTQ_DURABLE, -1) != FASTQ_OK
        || fastq_subscribe(c, "host", NULL, &s) != FASTQ_OK || fastq_receive(c, s, &message, 1, 60000000000, &came) != FASTQ_OK || came != 1
        || message.body_bytes >= sizeof body) {
        return NULL;
    }
    memcpy(body, message.body, message.body_bytes);
    return fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL) == FASTQ_OK ? (*java)->NewStringUTF(java, body) : NULL;
}

JNIEXPORT jstring JNICALL Java_Host_thereAndBack(JNIEnv *java, jclass class, jstring text) {
    fastq_connection c = 0;
    const char *bytes = (*java)->GetStringUTFChars(java, text, NULL);
    jstring given = bytes != NULL && fastq_connect(NULL, "name=java", &c) == FASTQ_OK ? there_and_back(java, c, bytes) : NULL;
    (void)class;
    if (bytes != NULL) {
        (*java)->ReleaseStringUTFChars(java, text, bytes);
    }
    if (given == NULL || fastq_close(c) != FASTQ_OK) {
        (*java)->ThrowNew(java, (*java)->FindClass(java, "java/lang/IllegalStateException"), fastq_last_error());
    }
    return given;
}
